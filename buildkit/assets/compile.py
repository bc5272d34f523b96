"""Compiles the modules of packages that were just installed, or takes what they compile to from a cache.

    compile.py [--wait] SINCE CACHE FOLDER...

With --wait it waits for a word on its standard input; without one it does nothing. If the word is "listed", the packages that
were just installed say themselves which modules they have; that spares looking at all that was there before. SINCE is a time
in nanoseconds: files that were last changed before are left alone. CACHE may be empty. It runs with the Python that the
modules are for, as old as 3.8, with -S: compiling a module runs nothing of it, but importing site would.

What a module compiles to is kept by all that it is made from: the bytes of its source, its path and the version of Python.
So a package cannot leave in the cache what another one's modules would be taken from. Equal sources give equal bytes:
the sources get the date of all that a build writes, and PYTHONHASHSEED has to be set.
"""
import csv
import hashlib
import importlib.util
import marshal
import mmap
import os
import stat
import struct
import sys
import types

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1767225600"))
MAGIC = importlib.util.MAGIC_NUMBER
# Packages' own tests are half of all modules, and next to nobody imports them. Who does waits for Python to compile them.
SKIPPED = ("__pycache__", "tests", "node_modules")


def fresh(folder, since):
    """Yields the size and the path of the modules in folder that were changed at since or later."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED:
                    yield from fresh(entry.path, since)
            elif entry.name.endswith(".py") and entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                if found.st_ctime_ns >= since:
                    yield found.st_size, entry.path


def listed(folder, since):
    """Yields the same of the modules of packages that were installed into folder at since or later, by their own lists."""
    with os.scandir(folder) as entries:
        new = [e.path for e in entries if e.name.endswith(".dist-info") and e.stat(follow_symlinks=False).st_ctime_ns >= since]
    names = set()
    for place in new:
        with open(os.path.join(place, "RECORD"), encoding="utf-8", newline="") as f:
            names.update(row[0] for row in csv.reader(f) if row and row[0].endswith(".py"))
    for name in names:
        folders = name.split("/")[:-1]
        if os.path.isabs(name) or ".." in folders or not set(SKIPPED).isdisjoint(folders):
            continue
        path = os.path.join(folder, name)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield found.st_size, path


def parts(whole):
    """Returns everything that a module, or a constant of one, is made of. What is written for a string depends on whether
    anybody else holds it, which depends on what was compiled before: who holds all makes it the same always."""
    found, todo = [], [whole]
    while todo:
        part = todo.pop()
        found.append(part)
        if isinstance(part, types.CodeType):
            todo += [getattr(part, name, None) for name in ("co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars",
                                                            "co_filename", "co_name", "co_qualname")]
        elif isinstance(part, (tuple, frozenset)):
            todo += part
    return found


def addressed(part):
    """Reports whether the hash of a constant depends on addresses: None and ... have theirs of where they are."""
    return any(each is None or each is ... for each in parts(part))


def compiled(path, source):
    """Returns what importlib would write for a module, or None."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except Exception:  # a template, a module for another Python
        return None
    held = parts(code)
    if sys.version_info < (3, 11) and any(isinstance(part, frozenset) and addressed(part) for part in held):
        return None  # written in an order that depends on addresses: Python compiles it when it is imported
    data = marshal.dumps(code)
    del held
    return MAGIC + struct.pack("<III", 0, EPOCH & 0xFFFFFFFF, len(source) & 0xFFFFFFFF) + data


def kept(cache, path, source):
    """Returns what compiled does, from the cache if it is there."""
    if not cache:
        return compiled(path, source)
    key = hashlib.sha256(os.fsencode(path) + b"\0" + source).hexdigest()
    place = os.path.join(cache, key[:2], key[2:])
    try:
        with open(place, "rb") as f:
            return f.read()
    except OSError:
        pass
    data = compiled(path, source)
    if data is not None:
        unfinished = "%s.%s" % (place, os.urandom(8).hex())  # steps that run at once have the same process ids
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(unfinished, "xb") as f:
            f.write(data)
        os.replace(unfinished, place)
    return data


def bring(cache, path, made):
    """Puts what a module compiles to beside it. made has the directories that were made for that: nothing is in the way there."""
    with open(path, "rb") as f:
        source = f.read()
    data = kept(cache, path, source)
    if data is None:
        return
    os.utime(path, (EPOCH, EPOCH))
    target = importlib.util.cache_from_source(path)
    folder = os.path.dirname(target)
    if folder not in made:
        try:
            os.mkdir(folder)
            made.add(folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                return
            try:
                os.unlink(target)  # what a package brought under this name; a link could lead into a cache
            except FileNotFoundError:
                pass
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(fd, "wb") as f:
        f.write(data)


def work(cache, paths, first, at):
    """Brings paths from first on, in a process of its own, and notes in at where it is. Returns the process id."""
    pid = os.fork()
    if pid:
        return pid
    made = set()
    try:
        for i in range(first, len(paths)):
            at[:] = struct.pack("=q", i)
            bring(cache, paths[i], made)
        os._exit(0)
    except Exception as e:
        print("%s was not compiled: %s" % (paths[i], e), file=sys.stderr, flush=True)
    finally:
        os._exit(1)


def main():
    # All modules share strings of one character, and whether they are interned is written too. Python before 3.11 interns
    # braces when it first meets the annotations of a module that postpones them.
    for n in range(256):
        sys.intern(chr(n))
    modules = fresh
    if sys.argv[1] == "--wait":
        del sys.argv[1]
        word = sys.stdin.read()
        if not word:
            return 0
        if word == "listed":
            modules = listed
    since, cache = int(sys.argv[1]), sys.argv[2]
    folders = {os.path.realpath(folder) for folder in sys.argv[3:]}  # uv has two names for each Python
    if cache:
        cache = os.path.join(cache, "%s-%s-%d" % (sys.implementation.cache_tag, MAGIC[:2].hex(), EPOCH))
    paths = [path for _, path in sorted((found for folder in folders for found in modules(folder, since)), reverse=True)]
    crew = min(len(os.sched_getaffinity(0)), len(paths))
    shares = [paths[n::crew] for n in range(crew)]
    notes = [mmap.mmap(-1, 8) for _ in shares]
    busy = {work(cache, shares[n], 0, notes[n]): n for n in range(crew)}
    while busy:
        pid, status = os.wait()
        n = busy.pop(pid)
        if status:  # a module that makes the compiler crash: it goes without
            after = struct.unpack("=q", notes[n][:])[0] + 1
            busy[work(cache, shares[n], after, notes[n])] = n
    return 0


if __name__ == "__main__":
    done = main()
    sys.stderr.flush()
    os._exit(done)  # taking an interpreter apart takes time, and somebody waits
