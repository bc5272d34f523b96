"""Solves and installs conda environments by rattler. Run by the base's own Python, with rattler on the path.

In a build it reads what to do from a file that comes from the plan:

    rattle.py install SPEC     solve (or take what a lock file has), download, link; runs nothing of any package
    rattle.py lacks PREFIX LOCK  print what of a lock file of pip's PREFIX does not have
    rattle.py finish PREFIX    what runs code of packages: their link scripts, and compiling
    rattle.py command SPEC     conda and mamba for the image: the channels' own, else the small command beside this file

The machine's settings (mirrors, certificates, credentials) are files that a step mounts, and end in no image.
Exit codes: 65 when the repository asks for what cannot be had, 69 when a channel cannot be reached.
"""

import asyncio
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

for place in ("/run/bindery-rattler", os.path.dirname(os.path.abspath(__file__))):
    sys.path.insert(0, place)

MACHINE = "/run/bindery/conda.json"  # {"channels": {name or URL: URL}}; also in steps that run what a repository brings
SECRET = "/run/bindery-conda/auth.json"  # rattler's own form; in steps only that run nothing of a repository
ALIAS = "https://conda.anaconda.org/"
USER, UNREACHABLE = 65, 69


class Failure(Exception):
    """An error in words for the repository's author."""

    def __init__(self, text, code=USER):
        super().__init__(text)
        self.code = code


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


def plain(text):
    """Takes tokens and passwords out of a URL."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1", str(text))
    return re.sub(r"/t/[^/\s]+/", "/t/***/", text)


def named(url):
    """The short name of a channel's URL."""
    url = plain(url).rstrip("/")
    return url[len(ALIAS):] if url.startswith(ALIAS) else url


class Machine:
    """Where channels are, as this machine is configured."""

    def __init__(self):
        self.map = load(MACHINE).get("channels") or {}

    def urls(self, channel):
        """The URLs that a channel of an environment file stands for. They are canonical: mirrors come below them."""
        if channel == "defaults" and "defaults" not in self.map:
            return ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]
        if channel in ("main", "pkgs/main", "pkgs/r"):
            return ["https://repo.anaconda.com/pkgs/" + channel.split("/")[-1]]
        if "://" in channel:
            return [channel.rstrip("/")]
        return [ALIAS + channel.strip("/")]

    def config(self):
        from rattler import Config

        lines = ['tls-root-certs = "system"', "allow-symbolic-links = false", "allow-hard-links = false"]
        if os.path.exists(SECRET):
            lines.append("authentication-override-file = " + json.dumps(SECRET))
        lines.append("[mirrors]")
        for name, url in self.map.items():
            for canonical in self.urls(name):
                lines.append("%s = [%s]" % (json.dumps(canonical), json.dumps(url.rstrip("/"))))
        return Config.from_toml("\n".join(lines))

    def tools(self, cache):
        from rattler import Client, Gateway

        config = self.config()
        client = Client.from_config(config, max_retries=3, user_agent="bindery")
        return config, client, Gateway.from_config(config, cache_dir=os.path.join(cache, "repodata"), client=client)


def virtual_packages():
    """What the machine counts as. Its own processor is not part of it: images move."""
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version, VirtualPackage

    found = [v.into_generic() for v in VirtualPackage.detect()]
    found = [v for v in found if v.name.normalized not in ("__archspec", "__cuda")]
    arch = "aarch64" if os.uname().machine == "aarch64" else "x86_64"
    return found + [GenericVirtualPackage(PackageName("__archspec"), Version("1"), BuildString(arch))]


def unreachable(error):
    """Whether a channel's failure is the moment's and not the repository's."""
    text = str(error).lower()
    if "client error (4" in text and "(429" not in text and "(408" not in text:
        return False
    return re.search(r"error sending request|retries|connect|dns error|lookup|timed? ?out|server error \(5|\(429|\(408|request or response body|incomplete|unexpected eof", text) is not None


def why_not(error):
    """The last cause that rattler gives, without addresses of mirrors."""
    lines = [l.removeprefix("Caused by: ") for l in str(error).splitlines() if l.strip()]
    return re.sub(r" for url \(\S*\)", "", plain(lines[-1] if lines else "no reason given"))


def whose(error, channels):
    """The channel that an error is about, as the environment file names it."""
    machine = Machine()
    for url in re.findall(r"https?://[^\s)\"']+", str(error)):
        for channel in channels:
            mirror = machine.map.get(channel)
            places = machine.urls(channel) + ([mirror.rstrip("/")] if mirror else [])
            if any(url.startswith(place + "/") for place in places):
                return "The channel " + named(channel)
    return "A channel"


def name_of(spec):
    """The name of the package that a spec is about."""
    return re.split(r"[\s\[=<>!~]", str(spec).rpartition("::")[2], maxsplit=1)[0]


async def candidates(spec, sources, platforms, gateway):
    """The records of a spec's name, and those that the spec itself accepts."""
    found = await gateway.query(sources, platforms, [name_of(spec)], recursive=False)
    records = [r for channel in found for r in channel]
    return records, [r for r in records if spec.matches(r)]


async def explain(error, wanted, channels, sources, platforms, gateway):
    """Turns a solver's refusal into an error that says which line of the file is the matter."""
    names = ", ".join(named(c) for c in channels) or "none"
    for text, spec in wanted:
        every, fit = await candidates(spec, sources, platforms, gateway)
        if fit:
            continue
        if not every:
            return Failure('There is no package for "%s" in the channels (%s).' % (text, names))
        versions = sorted({r.version for r in every}, reverse=True)
        has = ", ".join(str(v) for v in versions[:8]) + (", ..." if len(versions) > 8 else "")
        return Failure('No version of the package fits "%s"; the channels (%s) have %s.' % (text, names, has))
    reason = str(error).removeprefix("Cannot solve the request because of: ").strip()
    asked = ", ".join('"%s"' % text for text, spec in wanted if re.search(r"(?<![\w.-])%s(?![\w-])" % re.escape(name_of(spec)), reason))
    return Failure("The environment has no solution. What excludes each other, of %s:\n%s" % (asked or "the dependencies", reason))


def parse(text):
    from rattler import MatchSpec

    try:
        return MatchSpec(text, strict=False)
    except Exception as e:
        raise Failure('"%s" is not a dependency that conda understands: %s' % (text, str(e).splitlines()[0])) from e


async def solve(spec, machine, gateway, locked=()):
    """Solves; the first of several attempts that has a solution counts, the nearest to what the file says first."""
    import rattler
    from rattler.exceptions import SolverError

    wanted = [(text, parse(text)) for text in spec["specs"]]
    channels = [url for c in spec["channels"] for url in machine.urls(c)]
    for _, s in wanted:  # channel::package adds its channel, after the others
        if s.channel is not None and s.channel.base_url.rstrip("/") not in channels:
            channels.append(s.channel.base_url.rstrip("/"))
    channels = list(dict.fromkeys(channels))
    sources = [rattler.Channel(c) for c in channels]
    platforms = [rattler.Subdir.current(), rattler.Subdir("noarch")]
    preferred = ["python %s.*" % spec["python"]] if spec.get("python") else []
    error = None
    attempts = [(strict, soft) for strict in (True, False) for soft in ([preferred, []] if preferred else [[]])]
    for strict, soft in attempts:
        priority = rattler.ChannelPriority.Strict if strict else rattler.ChannelPriority.Disabled
        try:
            records = await rattler.solve(
                sources, [s for _, s in wanted] + [parse(s) for s in soft + spec.get("extra", [])], gateway=gateway, platforms=platforms,
                virtual_packages=virtual_packages(), channel_priority=priority, locked_packages=list(locked),
                constraints=[parse(c) for c in spec.get("constraints", [])])
        except SolverError as e:
            error = error or e
            continue
        if preferred and not soft:
            print("There is no solution with Python %s: another one is taken." % spec["python"], flush=True)
        if not strict:
            print("There is no solution with strict channel priority: packages of all channels compete.", flush=True)
        return records
    raise await explain(error, wanted, channels, sources, platforms, gateway)


def locked_record(package):
    """The record of a package that a lock file names. Only what identifies it: the rest is in the package."""
    from rattler import BuildString, PackageName, PackageRecord, RepoDataRecord, VersionWithSource

    url = package["url"]
    subdir, _, file = url.split("#")[0].rpartition("/")
    channel, _, subdir = subdir.rpartition("/")
    stem = re.sub(r"(\.conda|\.tar\.bz2)$", "", file)
    parts = stem.rsplit("-", 2)
    if len(parts) != 3 or stem == file:
        raise Failure("%s is not the URL of a conda package" % plain(url))
    record = PackageRecord(
        name=PackageName(parts[0]), version=VersionWithSource(parts[1]), build=BuildString(parts[2]), build_number=0, subdir=subdir, arch=None, platform=None)
    if package.get("sha256"):
        record.sha256 = bytes.fromhex(package["sha256"])
    if package.get("md5"):
        record.md5 = bytes.fromhex(package["md5"])
    return RepoDataRecord(package_record=record, file_name=file, url=url, channel=channel)


def describe(prefix):
    """Completes conda-meta from the packages themselves, and takes out where the cache of the moment was."""
    for file in glob.glob(os.path.join(prefix, "conda-meta", "*.json")):
        record = load(file)
        index = load(os.path.join(record.get("extracted_package_dir") or "/nonexistent", "info", "index.json"))
        for key in ("build_number", "depends", "constrains", "license", "noarch", "timestamp", "arch", "platform", "track_features"):
            if key in index and not record.get(key):
                record[key] = index[key]
        record.pop("extracted_package_dir", None)
        record["link"] = {"source": "", "type": 3}
        for key in ("url", "channel"):
            record[key] = re.sub(r"/t/[^/]+/", "/", re.sub(r"(://)[^/@]*@", r"\1", record.get(key) or ""))
        with open(file, "w", encoding="utf-8") as f:
            json.dump(record, f, indent=2)
    with open(os.path.join(prefix, "conda-meta", "history"), "w", encoding="utf-8") as f:
        f.write("\n")  # so that a later solve takes nothing of this one for a pin


async def install(spec, cache):
    import rattler

    machine = Machine()
    config, client, gateway = machine.tools(cache)
    began = time.monotonic()
    if spec.get("locked"):
        records = [locked_record(p) for p in spec["locked"]]
        print("The lock file has %d packages." % len(records), flush=True)
    else:
        records = await solve(spec, machine, gateway)
        print("Solved in %.1f s: %d packages." % (time.monotonic() - began, len(records)), flush=True)
    for r in sorted(records, key=lambda r: r.name.normalized):
        print("  + %s %s %s (%s)" % (r.name.normalized, r.version, r.build, named(r.channel)), flush=True)
    began = time.monotonic()
    await rattler.install(
        records, spec["prefix"], cache_dir=os.path.join(cache, "pkgs"), config=config, client=client, installed_packages=[],
        execute_link_scripts=False, show_progress=False, package_cache=rattler.PackageCache(os.path.join(cache, "pkgs")).with_cached_origin())
    describe(spec["prefix"])
    if spec.get("variables"):
        variables(spec["prefix"], spec["variables"])
    print("Installed in %.1f s." % (time.monotonic() - began), flush=True)
    return records


def variables(prefix, pairs):
    """Has activating the environment set variables: as conda keeps them, and for shells that know no conda."""
    with open(os.path.join(prefix, "conda-meta", "state"), "w", encoding="utf-8") as f:
        json.dump({"version": 1, "env_vars": {v["name"]: v["value"] for v in pairs}}, f)
    scripts = os.path.join(prefix, "etc", "conda", "activate.d")
    os.makedirs(scripts, exist_ok=True)
    with open(os.path.join(scripts, "zz-variables.sh"), "w", encoding="utf-8") as f:
        for v in pairs:
            f.write("export %s=%s\n" % (v["name"], shlex.quote(v["value"])))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def lacks(prefix, lock):
    """The entries of a lock file whose packages the environment does not have."""
    infos = glob.glob(os.path.join(prefix, "lib", "python3*", "site-packages", "*.dist-info"))
    infos += glob.glob(os.path.join(prefix, "lib", "python3*", "site-packages", "*.egg-info"))
    have = {normal(os.path.basename(i).split("-")[0].removesuffix(".egg")) for i in infos}
    keep, out = True, []
    with open(lock, encoding="utf-8") as f:
        for line in f:
            if not line[:1].isspace():
                keep = normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) not in have
            if keep:
                out.append(line)
    return "".join(out)


def environment(prefix):
    """What a script of a package may count on."""
    env = dict(os.environ, PREFIX=prefix, CONDA_PREFIX=prefix, CONDA_DEFAULT_ENV=os.path.basename(prefix), CONDA_SHLVL="1")
    env["PATH"] = os.path.join(prefix, "bin") + ":" + env.get("PATH", "")
    return env


def in_order(records):
    """Records with what they depend on before them."""
    byname, done, out = {r["name"]: r for r in records}, set(), []
    stack = [(n, False) for n in sorted(byname, reverse=True)]
    while stack:
        name, after = stack.pop()
        if name not in byname or (name in done and not after):
            continue
        if after:
            out.append(byname[name])
            continue
        done.add(name)
        stack.append((name, True))
        stack.extend((d.split()[0], False) for d in byname[name].get("depends") or [] if d.split()[0] not in done)
    return out


def finish(prefix):
    """Runs the link scripts of packages, and touches the modules that come without bytecode, for compile.py."""
    records = [load(f) for f in glob.glob(os.path.join(prefix, "conda-meta", "*.json"))]
    for r in in_order(records):
        script = os.path.join(prefix, "bin", ".%s-post-link.sh" % r["name"])
        if not os.path.exists(script):
            continue
        env = dict(environment(prefix), PKG_NAME=r["name"], PKG_VERSION=r["version"], PKG_BUILDNUM=str(r.get("build_number", 0)))
        done = subprocess.run(["/bin/bash", script], env=env, cwd=prefix, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            print("The script that %s runs after linking failed with exit code %d." % (r["name"], done.returncode), flush=True)
    messages = os.path.join(prefix, ".messages.txt")
    if os.path.exists(messages):
        with open(messages, encoding="utf-8", errors="replace") as f:
            print(f.read(), flush=True)
        os.remove(messages)
    sources = [os.path.join(prefix, p) for r in records if r.get("noarch") == "python" for p in r.get("files", []) if p.endswith(".py") and "/site-packages/" in p]
    for source in sources:
        if os.path.exists(source):  # a script may have taken it away
            os.utime(source)


async def command(spec, cache):
    """Puts conda and mamba into spec's prefix."""
    machine = Machine()
    _, _, gateway = machine.tools(cache)
    import rattler

    sources = [rattler.Channel(u) for c in spec["channels"] for u in machine.urls(c)]
    platforms = [rattler.Subdir.current(), rattler.Subdir("noarch")]
    have = [n for n in spec["specs"] if (await candidates(parse(n), sources, platforms, gateway))[0]]
    if have == spec["specs"]:
        await install(spec, cache)
        return
    print("The channels have no conda: Bindery's own small command takes its place.", flush=True)
    here = os.path.dirname(os.path.abspath(__file__))
    lib = os.path.join(spec["prefix"], "lib", "bindery")
    shutil.copytree(os.path.dirname(rattler.__file__), os.path.join(lib, "rattler"), ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("rattle.py", "conda.py", "conda-functions.sh"):
        shutil.copy(os.path.join(here, name), lib)
    small(spec["prefix"])


def small(root):
    """Lays out the small command as conda does: programs, and functions for shells."""
    for folder in ("bin", "etc/profile.d", "condabin"):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    program = os.path.join(root, "bin", "conda")
    with open(program, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\nexec /usr/bin/python3 -I ${PYTHONDONTWRITEBYTECODE:+-B} %s/lib/bindery/conda.py "${0##*/}" "$@"\n' % root)
    os.chmod(program, 0o755)
    for name in ("mamba", "micromamba"):
        os.symlink("conda", os.path.join(root, "bin", name))
    os.symlink("../bin/conda", os.path.join(root, "condabin", "conda"))
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "conda-functions.sh"), os.path.join(root, "etc", "profile.d", "conda.sh"))


async def step(what, file):
    spec, cache = load(file), os.environ["BINDERY_CACHE"]
    os.makedirs(os.environ.get("TMPDIR", "/tmp"), exist_ok=True)
    try:
        await (install if what == "install" else command)(spec, cache)
    except Failure:
        raise
    except Exception as e:
        from rattler.exceptions import FetchRepoDataError, GatewayError, InstallerError

        if not isinstance(e, (FetchRepoDataError, GatewayError, InstallerError)):
            raise
        if "hash mismatch" in str(e):
            lied = re.search(r"extracting (\S+)", str(e))
            what = "A package is not the one that the %s names by its hash: %s" % ("lock file" if spec.get("locked") else "channel", plain(lied.group(1)) if lied else "unknown")
            raise Failure(what, USER if spec.get("locked") else UNREACHABLE) from e
        if unreachable(e):
            raise Failure("%s could not be reached: %s" % (whose(e, spec.get("channels") or []), why_not(e)), UNREACHABLE) from e
        raise Failure("A channel does not have what it should: %s" % plain(" / ".join(str(e).splitlines()))) from e


def main(what, argument, *more):
    if what == "finish":
        finish(argument)
        return 0
    if what == "lacks":
        print(lacks(argument, *more), end="")
        return 0
    try:
        asyncio.run(step(what, argument))
    except Failure as e:
        print("error: %s" % e, file=sys.stderr)
        return e.code
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not sys.exit: threads of rattler's that still run would crash the interpreter as it ends
