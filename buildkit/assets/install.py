#!/usr/bin/python3
"""Installs Python requirements into the notebook environment.

    install.py wheels|all [--requirement=FILE]... [ARGUMENT]...

"wheels" runs no code of any package, so it may use the cache that all repositories share; what it cannot do it leaves to
"all", which follows, has a cache of the repository's own, and falls back to pip where uv cannot read what pip can. The
arguments are pip's. It runs with the base's Python, which may be as old as 3.8.
"""
import codecs
import glob
import optparse
import os
import re
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# What the planner has written, with the place that each line comes from in a comment.
SPEC = "/run/bindery-spec/"
FROM = re.compile(r" # (\S.*), line (\d+)$")
# Where the public index has been in its life. Who maps it to another by configuration means all of these.
PUBLIC = re.compile(r"https?://(pypi\.python\.org|pypi\.org|pypi\.io|www\.pypi\.org)(:\d+)?/(simple|pypi)?/?$", re.I)
# What PyPI itself says of how long its answers are good for: proxies on the way, and those that inspect TLS, may drop it, and
# uv would ask for everything again each time.
PYPI = os.path.join(HERE, "pypi.toml")
# Hosts that once served git:// and no longer do.
GONE_GIT = re.compile(r"\bgit\+git://(github\.com|gitlab\.com|bitbucket\.org)/", re.I)
NETWORK = re.compile(
    r"dns error|failed to lookup address|temporary failure in name|name or service not known|error sending request|tcp connect error|connection refused|"
    r"connection reset|timed out|network is unreachable|no route to host|could(n't| not) connect|unable to connect|could not resolve host|"
    r"\b(502 bad gateway|503 service unavailable|504 gateway|429 too many)", re.I)
UNREAD = re.compile(
    r"couldn't parse|could not parse|failed to parse|unexpected '|expected `--hash`|part of a valid version|valid utf-8|unsupported|unrecognized|"
    r"invalid (version|url|specifier|requirement)|not a valid|relative url without a base|pre-?releases weren't enabled|cannot be used with a wildcard", re.I)


def decode(data):
    """Returns the text of a requirement file, in whatever encoding pip would find."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark):].decode(name, "replace")
    for line in data.split(b"\n")[:2]:
        found = re.match(rb"#.*coding[:=]\s*([-\w.]+)", line)
        if found:
            try:
                return data.decode(found.group(1).decode("ascii"))
            except (LookupError, UnicodeError):
                break
    try:
        return data.decode("utf-8")
    except UnicodeError:
        return data.decode("latin-1")


class Options(optparse.OptionParser):
    """pip's options of requirement files, read as pip reads them: a line is split like a shell's, names may be cut short."""

    def __init__(self):
        super().__init__(add_help_option=False)
        for names in ("--requirement -r", "--constraint -c", "--editable -e", "--find-links -f", "--index-url --pypi-url -i", "--extra-index-url",
                      "--no-binary", "--only-binary", "--trusted-host", "--use-feature", "--hash", "--global-option", "--config-settings -C"):
            self.add_option(*names.split(), action="callback", callback=self.found, type="string", callback_args=(names.split()[0],))
        for name in ("--no-index", "--prefer-binary", "--require-hashes", "--pre"):
            self.add_option(name, action="callback", callback=self.found, callback_args=(name,))

    def found(self, option, said, value, parser, name):
        if value is not None and not said.startswith("--"):
            value = value[value.startswith("="):]  # -r=x, which uv reads
        self.all.append((name, value))

    def error(self, message):
        raise ValueError(message)

    def read(self, text):
        """Returns what pip takes of the options of a line, (NAME, VALUE) in order, and whether that is all that is there."""
        self.all = []
        rest = self.parse_args(shlex.split(text), optparse.Values())[1]
        everything = self.all
        for alone in ("--editable", "--requirement", "--constraint"):  # one package or one file, the first, and nothing beside it
            first = [o for o in everything if o[0] == alone][:1]
            if first:
                return first, everything == first and not rest
        first_links = [o for o in everything if o[0] == "--find-links"][:1]
        last_index = [o for o in everything if o[0] == "--index-url"][-1:]
        taken = [o for o in everything if o[0] not in ("--find-links", "--index-url")]
        return last_index + taken + first_links, len(everything) == 1 and not rest


OPTIONS = Options()


class Files:
    """The requirement files as the installers see them: copies in UTF-8, line for line, with indexes mapped."""

    def __init__(self, folder, index):
        self.folder, self.index = folder, index
        self.lines = []  # (file, number, text) of every logical line
        self.copies = {}
        self.ends = {}  # of copies with more lines than their files: where those end, and the numbers of the lines after that
        self.own_index = False  # the files name an index that takes the place of the public one
        self.pre = False

    def copy(self, path):
        """Copies a file and what it includes; returns the path of the copy."""
        name = path[1:] if path.startswith(SPEC) else os.path.relpath(path)
        if name in self.copies:
            return self.copies[name]
        if name.startswith("..") or not os.path.isfile(path):
            return os.path.abspath(path)
        target = self.copies[name] = os.path.join(self.folder, name)
        with open(path, "rb") as f:
            text = decode(f.read())
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as f:
            f.write("\n".join(self.rewrite(name, re.split(r"\r\n|\r|\n", text))))
        return target

    def export(self, project):
        """Writes the uv.lock of a project out as requirements, without those that are in the repository."""
        target = os.path.join(self.folder, "uv.lock.txt")
        # The lock file is what counts, whatever interpreters the project might like better.
        argv = ["uv", "export", "--quiet", "--frozen", "--no-emit-local", "--no-header", "--no-annotate", "--project", project,
                "--python", os.environ["NB_PYTHON_PREFIX"], "--output-file", target]
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode
        if code == 0:
            lock = os.path.normpath(os.path.join(project, "uv.lock"))
            with open(lock, encoding="utf-8") as f:
                at = {m.group(1): i + 1 for i, line in enumerate(f) for m in [re.match(r'name = "(.*)"', line)] if m}
            with open(target, encoding="utf-8") as f:
                for text in f:
                    found = re.match(r"[A-Za-z0-9][\w.-]*", text)
                    if found:
                        self.lines.append((lock, at.get(plain(found.group(0)), 1), text.strip()))
        return code, target

    def rewrite(self, name, physical):
        """Returns the lines of a copy. They have the numbers that they came with, so that messages name the right ones; what a
        line with several options comes to beyond that is at the end."""
        out, more, i = [], [], 0
        while i < len(physical):
            start, parts = i, []
            while physical[i].endswith("\\") and not physical[i].lstrip().startswith("#") and i + 1 < len(physical):
                parts.append(physical[i][:-1])
                i += 1
            whole = " ".join(parts + [physical[i]])
            i += 1
            text = re.sub(r"(^|\s)#.*$", "", whole).strip()
            if text:
                origin = FROM.search(whole) if name.startswith(SPEC[1:]) else None
                self.lines.append((origin.group(1), int(origin.group(2)), text) if origin else (name, start + 1, text))
            changed = self.change(name, text)
            if changed == [text]:
                out += physical[start:i]
                continue
            out += changed[:1] + [""] * (i - start - 1)
            more += [(start + 1, line) for line in changed[1:]]
        if not more:
            return out
        # After an empty line: the last one may say that it goes on.
        self.ends[name] = len(out) + 1, [number for number, _ in more]
        return out + [""] + [line for _, line in more]

    def number(self, name, line):
        """Returns the number that a line of a copy has in its file."""
        end, numbers = self.ends.get(name, (line, []))
        return numbers[line - end - 1] if line > end else line

    def change(self, name, text):
        """Returns what a logical line becomes: as many lines as it has options, for uv reads one on each."""
        if text.startswith("-"):
            try:
                taken, whole = OPTIONS.read(text)
            except ValueError:  # the installers complain
                return [text]
            lines = [self.option(name, option, value) for option, value in taken]
            if not whole or lines != [None]:
                lines = [plain_option(*o) if line is None else line for o, line in zip(taken, lines)]
                return [line for line in map(self.living, lines) if line] or [""]
        return [self.living(text)]

    def option(self, name, option, value):
        """Returns the line of an option, or None if it stays as it is."""
        if option in ("--requirement", "--constraint") and value and "://" not in value and "${" not in value:
            return plain_option(option, self.copy(os.path.join(os.path.dirname(name), value)))
        if option == "--find-links" and value and "://" not in value:
            beside = os.path.join(os.path.dirname(name), value)
            return plain_option(option, os.path.abspath(beside if os.path.exists(beside) else value))
        if option == "--index-url":
            self.own_index = not PUBLIC.match(value)  # the last one counts
            if self.own_index:
                return plain_option(option, value)
            return "" if self.index else "--index-url https://pypi.org/simple"
        if option == "--extra-index-url" and PUBLIC.match(value):
            return plain_option(option, self.index or "https://pypi.org/simple")
        if option == "--pre":
            self.pre = True
        return None

    @staticmethod
    def living(text):
        """Names servers of today."""
        if not GONE_GIT.search(text):
            return text
        say("git:// is served there no longer; https:// is used: %s" % text)
        return GONE_GIT.sub(r"git+https://\1/", text)

    def where(self, name):
        """Returns "FILE, line N" of the requirement called name, or None."""
        want = plain(name)
        for file, number, text in self.lines:
            found = re.match(r"(?:-e\s+|--editable[=\s]+)?([A-Za-z0-9][A-Za-z0-9._-]*)", text)
            egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", text)
            if (found and plain(found.group(1)) == want) or (egg and plain(egg.group(1)) == want):
                return "%s, line %d" % (file, number)
        return None


def plain_option(option, value):
    return option if value is None else option + " " + value


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def say(text):
    print(text, flush=True)


def run(argv, env, show, folder):
    """Runs a program, shows its output as it comes, and returns its exit code and the end of the output."""
    tail = []
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as child:
        for raw in child.stdout:
            line = raw.decode("utf-8", "replace").replace(folder + "/", "").rstrip("\n")
            tail.append(line)
            del tail[:-400]
            if show(line):
                say(line)
    return child.returncode, "\n".join(tail)


def quiet_after_error():
    """Shows a program's output up to its first error."""
    state = {"over": False}

    def show(line):
        state["over"] = state["over"] or line.startswith(("error:", "  ×"))
        return not state["over"]
    return show


def explain(said, files, python):
    """Returns what went wrong, in words and with the place, or None."""
    found = re.search(r"in `([^`]+)` at position (\d+)\n\s*cause: ([^\n]+)", said)
    if found and found.group(1) in files.copies:
        with open(files.copies[found.group(1)], encoding="utf-8") as f:
            line = files.number(found.group(1), f.read()[:int(found.group(2))].count("\n") + 1)
        return "%s, line %d: it cannot be read: %s." % (found.group(1), line, found.group(3))
    rules = (
        (r"Invalid requirement: '([A-Za-z0-9][\w.-]*)([^']*)'", "it is no requirement that pip or uv can read"),
        (r"([A-Za-z0-9][\w.-]*?)(==[^\s,]+) has invalid metadata", "neither uv nor pip can read what it needs"),
        (r"([A-Za-z0-9][\w.-]*?) was not found in the package registry()", "the index has no such package"),
        (r"there (?:is|are) no versions? of ([A-Za-z0-9][\w.-]*?)((?:[<>=!~].*?)?) and", "the index has no such version"),
        (r"([A-Za-z0-9][\w.-]*?)(==[^\s,]+)? has no (?:usable )?wheels", "it has no build for Python " + python),
        (r"([A-Za-z0-9][\w.-]*?)(==[^\s,]+)? depends on Python", "it is not for Python " + python),
        (r"(?:Failed to build|Failed building wheel for|Failed to download and build) `?([A-Za-z0-9][\w.-]*)(==[^\s`]+)?",
         "it has no build for Python %s, and could not be built from its source" % python),
        (r"No matching distribution found for ([A-Za-z0-9][\w.-]*)([^\s]*)", "the index has no such version for Python " + python),
        (r"you require ([A-Za-z0-9][\w.-]*?)(==[^\s,]+) and \1==", "two lines ask for different versions"),
    )
    for pattern, text in rules:
        found = re.search(pattern, said)
        if found:
            name, version = found.group(1), found.group(2) or ""
            return "%s: %s%s: %s." % (files.where(name) or "A package that others need", name, version, text)
    return None


def uv(mode, files, args):
    """Returns the command line of uv, and its environment."""
    env = dict(os.environ)
    argv = ["uv", "pip", "install", "--python", env["NB_PYTHON_PREFIX"], "--index-strategy", "unsafe-best-match"]
    if mode == "wheels":
        argv += ["--only-binary", ":all:"]
    if files.pre:
        argv += ["--prerelease", "allow"]
    if files.own_index:  # for uv the environment goes before the file
        for key in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
            env.pop(key, None)
    elif not files.index:
        env["UV_CONFIG_FILE"] = PYPI
    return argv + args, env


def site_packages(prefix):
    """Returns the directory that packages are in."""
    found = {os.path.realpath(p) for p in glob.glob(os.path.join(prefix, "lib/python3*/site-packages"))}
    return min(found) if found else os.path.join(prefix, "lib")


class Compiler:
    """Compiles what is installed from now on. It runs nothing of any package: its Python starts before they come, and is
    ready when uv has them there."""

    def __init__(self, prefix, folder):
        since = os.lstat(new_folder(folder)).st_ctime_ns
        argv = [os.path.realpath(prefix + "/bin/python"), "-S", "-s", "-W", "ignore", os.path.join(HERE, "compile.py"), "--wait", str(since),
                os.path.join(os.environ["UV_CACHE_DIR"], "compiled"), site_packages(prefix)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        env["PYTHONHASHSEED"] = "0"
        self.child = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE)

    def compile(self, word):
        self.child.communicate(word)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.returncode is None:
            self.child.communicate()  # told nothing, it does nothing


def forget_times(prefix):
    """Takes away when the directories that packages were built from were last changed: that differs from checkout to checkout."""
    for file in glob.glob(os.path.join(site_packages(prefix), "*.dist-info", "uv_cache.json")):
        with open(file, encoding="utf-8") as f:
            if "secs_since_epoch" not in f.read():
                continue
        os.unlink(file)
        record = os.path.join(os.path.dirname(file), "RECORD")
        with open(record, encoding="utf-8", newline="") as f:
            lines = f.readlines()
        with open(record, "w", encoding="utf-8", newline="") as f:
            f.writelines(line for line in lines if "/uv_cache.json," not in line)


def install(mode, prefix, folder, args):
    finished = prefix + "/.bindery-done"
    if mode == "all" and os.path.lexists(finished):  # as a rule such a step is not begun
        os.unlink(finished)
        return 0
    files = Files(folder, os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL"))
    done = []
    for arg in args:
        option, _, value = arg.partition("=")
        if option == "--requirement":
            arg = "--requirement=" + files.copy(value)
        elif option == "--locked":
            code, exported = files.export(value)
            if code != 0:
                return 0 if mode == "wheels" else code
            arg = "--requirement=" + exported
        done.append(arg)
    argv, env = uv(mode, files, done)
    with Compiler(prefix, folder) as compiler:
        if mode == "wheels":
            code, said = run(argv, env, quiet_after_error(), folder)
            if code == 0:
                compiler.compile(b"listed")
                with open(finished, "w"):
                    pass
            elif NETWORK.search(said):  # what follows would only wait for the same once more
                say(said[max(said.find("\nerror:"), 0):])
                return code
            return 0
        code, said = run(argv, env, lambda line: True, folder)
        if code != 0 and UNREAD.search(said) and not NETWORK.search(said):
            say("\nuv cannot read all of this, so pip installs it.\n")
            pip = [prefix + "/bin/python", "-m", "pip", "install", "--no-input", "--no-compile", "--disable-pip-version-check",
                   "--cache-dir", os.environ["UV_CACHE_DIR"] + "/pip"]
            code, more = run(pip + done, env, lambda line: True, folder)
            said = more + "\n" + said
        if code == 0:
            forget_times(prefix)
            compiler.compile(b"all")  # what a package's own building has changed is in no list
    if code != 0 and not NETWORK.search(said):
        versions = glob.glob(prefix + "/lib/python3.*")
        text = explain(said, files, versions[0].rsplit("python", 1)[1] if versions else "3")
        if text:
            say("\n" + text)
    return code


def main():
    mode, args, prefix = sys.argv[1], sys.argv[2:], os.environ["NB_PYTHON_PREFIX"]
    os.makedirs(os.environ["TMPDIR"], exist_ok=True)
    folder = new_folder(os.environ["TMPDIR"])
    try:
        return install(mode, prefix, folder, args)
    finally:
        remove(folder)


# A program this short would be half done once it has imported what tempfile and shutil do.
def new_folder(parent):
    """Makes a directory of this process's own: steps that run at once share the parent."""
    folder = os.path.join(parent, os.urandom(8).hex())
    os.mkdir(folder, 0o700)
    return folder


def remove(folder):
    """Removes a directory; what a package's building may have left in it can be in the way, and stays."""
    try:
        for place, _, files in os.walk(folder, topdown=False):
            for name in files:
                os.unlink(os.path.join(place, name))
            os.rmdir(place)
    except OSError:
        pass


if __name__ == "__main__":
    done = main()
    sys.stdout.flush()
    os._exit(done)  # taking an interpreter apart takes time, and somebody waits
