# Launches a repository by a client that was generated from the hub's own OpenAPI document.
#   generated.py HUB TOKEN REPOSITORY
import json
import sys

from generated_client import AuthenticatedClient, Client
from generated_client.api.default import (
    cancel_build, get_build, get_build_log, get_build_plan, get_build_provenance, get_document, get_queue, get_session,
    get_status, launch_session, list_audit, list_builds, list_sessions, stop_session, submit_build,
)
from generated_client.models import Build, CancelBuild, LaunchedSession, NewBuild, NewSession, Problem, Queue, Source, Status, StopSession

hub, token, repository = sys.argv[1:]
client = AuthenticatedClient(base_url=hub, token=token, timeout=600)
stranger = Client(base_url=hub)


def want(kind, got):
    if not isinstance(got, kind):
        sys.exit(f"a {kind.__name__} was wanted: {got}")
    return got


assert want(object, get_document.sync(client=client)).to_dict()["openapi"].startswith("3.1")
assert want(Status, get_status.sync(client=client)).ok
want(Queue, get_queue.sync(client=stranger))

build = want(Build, submit_build.sync(client=client, body=NewBuild(source=Source(url=repository, ref="main")), idempotency_key="generated-1"))
again = want(Build, submit_build.sync(client=client, body=NewBuild(source=Source(url=repository, ref="main")), idempotency_key="generated-1"))
assert build.id == again.id, (build.id, again.id)

session = want(LaunchedSession, launch_session.sync(client=client, body=NewSession(source=Source(url=repository, ref="main"), request="generated-2")))
assert session.url.endswith("/") and session.token, session
build = want(Build, get_build.sync(client=stranger, id=session.build))
assert build.state == "succeeded" and build.source.url == repository, build
assert get_build_plan.sync(client=stranger, id=build.id).to_dict()["pack"] == "python"
assert get_build_provenance.sync(client=stranger, id=build.id).to_dict()["predicateType"] == "https://slsa.dev/provenance/v1"
assert "Using python builder" in get_build_log.sync(client=stranger, id=build.id)
assert build.id in [b.id for b in list_builds.sync(client=client, limit=50)]
assert session.id in [s.id for s in list_sessions.sync(client=client)]

refused = want(Problem, list_sessions.sync(client=stranger))
assert refused.status == 401 and refused.remedy, refused
missing = want(Problem, get_session.sync(client=stranger, id=session.id))
assert missing.status == 404, missing
assert list_audit.sync(client=client, limit=1) is not None

own = AuthenticatedClient(base_url=hub, token=session.token)
assert want(LaunchedSession, get_session.sync(client=own, id=session.id)).state == "ready"
stop_session.sync_detailed(client=own, id=session.id, body=StopSession(reason="seen enough"))
assert session.id not in [s.id for s in list_sessions.sync(client=client)]
assert cancel_build.sync_detailed(client=client, id=build.id, body=CancelBuild(reason="none")).status_code == 200  # it is over

print(json.dumps({"build": build.id, "session": session.id}))
