"""A small conda: what scripts of repositories use of it, over rattler. It stands in where the channels have no conda.

    conda.py NAME ARGUMENTS    NAME is what it was called by: conda, mamba or micromamba

What it does not know it names, and exits with 2.
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
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rattle  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERSION = "0.1"
HELP = """usage: %s COMMAND ...

This is Bindery's small stand-in for conda. It knows:
  install, update, create, remove   [-n NAME | -p PREFIX] [-c CHANNEL] [--file FILE] [-y] SPEC ...
  list                              [-n NAME | -p PREFIX] [--json] [NAME]
  run                               [-n NAME | -p PREFIX] COMMAND ...
  activate, deactivate              in a shell that has read /srv/conda/etc/profile.d/conda.sh
  env list, env create, env update  [-n NAME | -p PREFIX] [-f FILE]
  info, config --add channels, clean, init, shell.bash hook
"""
VALUED = {"-n": "name", "--name": "name", "-p": "prefix", "--prefix": "prefix", "-c": "channel", "--channel": "channel", "-f": "file", "--file": "file", "--cwd": "cwd"}
# Options that change nothing here: there is nobody to ask, and the solver keeps what is installed as it can.
IDLE = {
    "-y", "--yes", "-q", "--quiet", "-v", "-vv", "--verbose", "--no-update-deps", "--freeze-installed", "--update-deps", "--prune", "--all", "-a",
    "--strict-channel-priority", "--flexible-channel-priority", "--no-channel-priority", "--no-capture-output", "--live-stream", "--copy", "--force",
    "--no-default-packages", "--force-reinstall", "--only-deps", "--no-banner", "--no-rc", "--envs", "-e", "--index-cache", "--tarballs", "--packages"}


class Unknown(Exception):
    """Something that this command does not know."""


class Options:
    """What a command line says."""

    def __init__(self, arguments, stop=False):
        self.name = self.prefix = self.cwd = None
        self.channel, self.file, self.words, self.json, self.override, self.base = [], [], [], False, False, False
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            option, joined, value = word.partition("=")
            if word == "--":
                self.words += rest
                break
            if option in VALUED and word.startswith("-") and (joined or rest):
                value = value if joined else rest.pop(0)
                what = VALUED[option]
                if isinstance(getattr(self, what), list):
                    getattr(self, what).append(value)
                else:
                    setattr(self, what, value)
            elif word == "--json":
                self.json = True
            elif word == "--override-channels":
                self.override = True
            elif word == "--base":
                self.base = True
            elif word in IDLE:
                pass
            elif word.startswith("-"):
                raise Unknown("the option %s" % word)
            else:
                self.words.append(word)
                if stop:
                    self.words += rest
                    break

    def target(self):
        if self.prefix:
            return os.path.abspath(self.prefix)
        if self.name:
            return place(self.name)
        return os.environ.get("KERNEL_PYTHON_PREFIX") or os.environ.get("CONDA_PREFIX") or place("notebook")


def place(name):
    if name in ("base", "root"):
        return ROOT
    return os.path.abspath(name) if "/" in name else os.path.join(ROOT, "envs", name)


def environments():
    return [ROOT] + sorted(p for p in glob.glob(os.path.join(ROOT, "envs", "*")) if os.path.isdir(p))


def rc(write=None):
    """The channels that conda config was told of."""
    path = os.path.join(ROOT, "bindery-channels.json")
    if write is not None:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(write, f)
    return rattle.load(path) or ["conda-forge"]


def channels(options, more=()):
    found = options.channel + list(more) + ([] if options.override else rc())
    return [c for c in dict.fromkeys(found) if c != "nodefaults"]


def installed(prefix):
    return [rattle.load(f) for f in sorted(glob.glob(os.path.join(prefix, "conda-meta", "*.json")))]


def requested(prefix):
    """The specs that people asked for in an environment, by the name of their package."""
    return rattle.load(os.path.join(prefix, "conda-meta", "bindery-requested"))


async def change(prefix, specs, from_channels, update=(), drop=()):
    """Solves prefix for specs beside what it has, and makes it so."""
    import rattler

    machine, cache = rattle.Machine(), tempfile.mkdtemp(prefix="conda-")
    try:
        config, client, gateway = machine.tools(cache)
        have = [rattler.PrefixRecord.from_path(f) for f in glob.glob(os.path.join(prefix, "conda-meta", "*.json"))]
        asked = requested(prefix) or {r.name.normalized: r.name.normalized for r in have}
        for s in specs:
            asked[rattle.name_of(rattle.parse(s))] = s
        for name in drop:
            asked.pop(name, None)
        # A package that is there keeps its version as far as the rest allows, unless it is what was asked for.
        named = {rattle.name_of(rattle.parse(s)) for s in specs} | set(update)
        keep = [r for r in have if r.name.normalized not in named and r.name.normalized not in drop]
        records = await rattle.solve({"specs": list(asked.values()), "channels": from_channels}, machine, gateway, locked=keep)
        before, after = {r.name.normalized: str(r.version) for r in have}, {r.name.normalized: str(r.version) for r in records}
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                print("  %s: %s -> %s" % (name, before.get(name, "none"), after.get(name, "none")), flush=True)
        await rattler.install(records, prefix, cache_dir=os.path.join(cache, "pkgs"), config=config, client=client, installed_packages=have, execute_link_scripts=True, show_progress=False)
        rattle.describe(prefix)
        with open(os.path.join(prefix, "conda-meta", "bindery-requested"), "w", encoding="utf-8") as f:
            json.dump(asked, f)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def specs_of(options):
    specs = list(options.words)
    for file in options.file:
        with open(file, encoding="utf-8") as f:
            specs += [l.split("#")[0].strip() for l in f if l.split("#")[0].strip()]
    return specs


def install(options, create=False):
    prefix = options.target()
    if not create and not os.path.isdir(prefix):
        raise rattle.Failure("there is no environment at %s" % prefix)
    if any(f.endswith((".yml", ".yaml")) for f in options.file):
        return environment_update(options)
    specs = specs_of(options)
    os.makedirs(os.path.join(prefix, "conda-meta"), exist_ok=True)
    if specs:
        asyncio.run(change(prefix, specs, channels(options)))
    return 0


def update(options):
    prefix, names = options.target(), [rattle.name_of(rattle.parse(s)) for s in options.words]
    asyncio.run(change(prefix, options.words, channels(options), update=names or [r["name"] for r in installed(prefix) if "name" in r]))
    return 0


def remove(options):
    asyncio.run(change(options.target(), [], channels(options), drop=options.words))
    return 0


def read_yaml(file):
    """The environment's Python reads YAML: the base's own has nothing for it."""
    program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8')) or {}))"
    python = os.path.join(os.environ.get("NB_PYTHON_PREFIX") or place("notebook"), "bin", "python")
    done = subprocess.run([python, "-I", "-c", program, file], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise rattle.Failure("%s cannot be read: %s" % (file, (done.stderr.strip().splitlines() or ["no reason given"])[-1]))
    return json.loads(done.stdout)


def environment_update(options):
    file = (options.file + options.words + ["environment.yml"])[0]
    env = read_yaml(file)
    if options.name is None and options.prefix is None and os.path.basename(str(env.get("name") or "")) and os.path.isdir(place(str(env["name"]))):
        options.name = str(env["name"])
    prefix, dependencies = options.target(), env.get("dependencies") or []
    specs = [d for d in dependencies if isinstance(d, str)]
    pip = [line for d in dependencies if isinstance(d, dict) for line in d.get("pip") or []]
    os.makedirs(os.path.join(prefix, "conda-meta"), exist_ok=True)
    if specs:
        asyncio.run(change(prefix, specs, channels(options, env.get("channels") or [])))
    if pip:
        folder = os.path.dirname(os.path.abspath(file))
        with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder, encoding="utf-8") as f:
            f.write("\n".join(pip) + "\n")
            f.flush()
            return subprocess.run([os.path.join(prefix, "bin", "python"), "-m", "pip", "install", "-r", f.name], cwd=folder, check=False).returncode
    return 0


def listing(options):
    prefix = options.target()
    rows = [r for r in installed(prefix) if "version" in r]
    if options.words:
        rows = [r for r in rows if re.search(options.words[0], r["name"])]
    rows.sort(key=lambda r: r["name"])
    if options.json:
        keys = ("name", "version", "channel", "subdir")
        print(json.dumps([dict({k: r.get(k) for k in keys}, channel=rattle.named(r.get("channel") or ""), build_string=r.get("build"), build_number=r.get("build_number", 0),
                               base_url=r.get("channel"), platform=r.get("subdir"), dist_name="%s-%s-%s" % (r["name"], r["version"], r.get("build"))) for r in rows], indent=2))
        return 0
    print("# packages in environment at %s:\n#" % prefix)
    for r in rows:
        print("%-24s %-16s %-20s %s" % (r["name"], r["version"], r.get("build"), rattle.named(r.get("channel") or "")))
    return 0


def activated(prefix):
    """The environment of a program that runs in prefix."""
    env = rattle.environment(prefix)
    env["CONDA_DEFAULT_ENV"] = "base" if prefix == ROOT else os.path.basename(prefix)
    return env


def run(options):
    prefix = options.target()
    if not os.path.isdir(prefix):
        raise rattle.Failure("there is no environment at %s" % prefix)
    if not options.words:
        raise Unknown("run without a command")
    if options.cwd:
        os.chdir(options.cwd)
    scripts = 'for f in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ -r "$f" ] && . "$f"; done; exec "$@"'
    os.execvpe("/bin/bash", ["bash", "-c", scripts, "bash"] + options.words, activated(prefix))


def activation(options):
    """Prints what a shell evaluates."""
    prefix = place(options.words[0]) if options.words else ROOT
    if not os.path.isdir(prefix):
        raise rattle.Failure("there is no environment at %s" % prefix)
    paths = [p for p in os.environ.get("PATH", "").split(":") if p != os.path.join(os.environ.get("CONDA_PREFIX", "/nowhere"), "bin")]
    print("export PATH=%s" % shlex.quote(":".join([os.path.join(prefix, "bin")] + paths)))
    print("export CONDA_PREFIX=%s CONDA_SHLVL=1 CONDA_DEFAULT_ENV=%s" % (shlex.quote(prefix), shlex.quote("base" if prefix == ROOT else os.path.basename(prefix))))
    for script in sorted(glob.glob(os.path.join(prefix, "etc", "conda", "activate.d", "*.sh"))):
        print(". %s" % shlex.quote(script))
    return 0


def env_list(options):
    if options.json:
        print(json.dumps({"envs": environments()}, indent=2))
        return 0
    print("# conda environments:\n#")
    for p in environments():
        mark = "*" if p == os.environ.get("CONDA_PREFIX") else " "
        print("%-20s %s  %s" % ("base" if p == ROOT else os.path.basename(p), mark, p))
    return 0


def info(options):
    if options.base:
        print(ROOT)
        return 0
    facts = {"conda_version": VERSION + "+bindery", "root_prefix": ROOT, "active_prefix": os.environ.get("CONDA_PREFIX"), "envs": environments(),
             "envs_dirs": [os.path.join(ROOT, "envs")], "channels": rc(), "platform": os.environ.get("CONDA_PLATFORM", "linux-64")}
    print(json.dumps(facts, indent=2) if options.json else "\n".join("%16s : %s" % (k, v) for k, v in facts.items()))
    return 0


def config(arguments):
    rest = [a for a in arguments if a not in ("--system", "--env")]
    if len(rest) == 3 and rest[0] in ("--add", "--prepend", "--append") and rest[1] == "channels":
        known = [c for c in rc() if c != rest[2]]
        rc(known + [rest[2]] if rest[0] == "--append" else [rest[2]] + known)
        return 0
    if len(rest) == 3 and rest[0] == "--set":
        print("%s has no effect here." % rest[1], file=sys.stderr)
        return 0
    raise Unknown("config " + " ".join(arguments))


def main(name, arguments):
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP % name, end="")
        return 0
    what, rest = arguments[0], arguments[1:]
    if what in ("-V", "--version", "version"):
        print("%s %s+bindery" % (name, VERSION))
        return 0
    if what == "env":
        what, rest = "env " + (rest[0] if rest else ""), rest[1:]
    if what in ("clean", "init"):
        return 0  # there is no cache, and shells know of conda already
    if what == "config":
        return config(rest)
    if what in ("shell.bash", "shell.posix", "shell.zsh", "shell") and "hook" in rest:
        with open(os.path.join(ROOT, "etc", "profile.d", "conda.sh"), encoding="utf-8") as f:
            print(f.read())
        return 0
    if what in ("activate", "deactivate"):
        raise rattle.Failure('this shell does not know conda yet: source %s/etc/profile.d/conda.sh, or use "conda run"' % ROOT)
    known = {
        "install": install, "create": lambda o: install(o, create=True), "update": update, "upgrade": update, "remove": remove, "uninstall": remove,
        "list": listing, "run": run, "info": lambda o: env_list(o) if "--envs" in rest or "-e" in rest else info(o), "__activate": activation,
        "__deactivate": lambda o: activation(Options([])), "env list": env_list, "env update": environment_update, "env create": environment_update}
    if what not in known:
        raise Unknown(what)
    return known[what](Options(rest, stop=what == "run"))


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2:])
    except rattle.Failure as e:
        print("%s: %s" % (sys.argv[1], e), file=sys.stderr)
        code = 1
    except Unknown as e:
        print("%s: Bindery's small stand-in for conda does not know %s." % (sys.argv[1], e), file=sys.stderr)
        code = 2
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
