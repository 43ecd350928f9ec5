# SPDX-License-Identifier: BSD-3-Clause
"""The checks of man pages and modules: whether pages are well formed and say what the programs do.

Those that ask the programs need a build tree. Each check yields (path, line, what).
"""

import os
import re
import subprocess

_MODULE = re.compile(r"(plugins|filters)/([\w-]+)/")
_SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"]
# Each program, how it lists its options, and its page.
_PROGRAMS = [
    ("nbdkit", "--long-options", "man/nbdkit.1.pod"),
    ("nbdkit-attach", "--help", "man/nbdkit-attach.8.pod"),
]


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def module_folders(paths):
    """Every plugin and filter has code, a test and a page, and nothing lies beside the folders."""
    folders = {}
    for path in paths:
        found = _MODULE.match(path)
        if found:
            folders.setdefault(found.group(0)[:-1], []).append(path)
        elif re.match(r"(plugins|filters)/", path):
            yield path, 1, "belongs in the folder of a plugin or filter"
    for folder, files in folders.items():
        kind, name = folder.split("/")
        page = f"{folder}/nbdkit-{name}-{kind[:-1]}.pod"
        if page not in files:
            yield page, 1, "the page is missing"
        if not any(f.endswith(".cc") and not f.endswith("_test.cc") for f in files):
            yield folder, 1, "there is no code"
        if not any(f.endswith("_test.cc") for f in files):
            yield folder, 1, "there is no unit test (*_test.cc)"


def page_form(root, pages):
    """podchecker finds nothing to say, and the usual sections are there."""
    if not pages:
        return
    _, _, said = run("podchecker", "-warnings", "-warnings", *(os.path.join(root, page) for page in pages))
    for line in said.splitlines():
        found = re.match(r"\*\*\* (?:ERROR|WARNING): (.*) at line (\d+) in file (.*)", line)
        if found:
            yield os.path.relpath(found.group(3), root), int(found.group(2)), found.group(1)
    for page in pages:
        if f"{os.path.join(root, page)} pod syntax OK" not in said:
            yield page, 1, "podchecker does not like it"


def page_sections(path, text):
    for section in _SECTIONS:
        if not re.search(rf"^=head1 {section}$", text, re.MULTILINE):
            yield 1, f"has no section {section}"
    if "/" in path and not path.startswith("man/") and not re.search("^=head1 PARAMETERS$", text, re.MULTILINE):
        yield 1, "has no section PARAMETERS (it may say that there are none)"


def page_keys(text):
    """The keys in the items of PARAMETERS: line -> key."""
    keys = {}
    inside = False
    for n, line in enumerate(text.split("\n"), 1):
        if line.startswith("=head1"):
            inside = line == "=head1 PARAMETERS"
        elif inside and line.startswith("=item"):
            for key in re.findall(r"B<\[?([A-Za-z][\w.-]*)=", line):
                keys[key] = n
    return keys


def help_keys(text, prefix):
    """The keys in what --help prints for one module, found by the line that names it."""
    inside, keys = False, set()
    for line in text.split("\n"):
        if re.match(r"(plugin|filter): ", line):
            inside = line.startswith(prefix)
        found = re.match(r"\[?([A-Za-z][\w.-]*)=", line)
        if inside and found:
            keys.add(found.group(1))
            keys.update(re.findall(r"\(or ([\w.-]+)=\)$", line))
    return keys


def compare(path, page, program, what):
    """Both are sets or dicts of names; a dict tells the line."""
    for name in sorted(set(page) - set(program)):
        yield path, page[name] if isinstance(page, dict) else 1, f"{what} '{name}' is not in the program"
    for name in sorted(set(program) - set(page)):
        yield path, 1, f"{what} '{name}' of the program is missing"


def parameters(root, build, pages):
    """Each page of a module has exactly the keys that the module has."""
    for path in pages:
        found = _MODULE.match(path)
        if not found:
            continue
        kind, name = found.group(1)[:-1], found.group(2)
        layers = [name] if kind == "plugin" else [f"--filter={name}", "null"]
        status, output, errors = run(f"{build}/bin/nbdkit", "--help", *layers)
        if status != 0 or f"{kind}: {name}" not in output:
            yield path, 1, f"'nbdkit --help {' '.join(layers)}' failed: {errors.strip()}"
            continue
        with open(os.path.join(root, path), encoding="utf-8") as page:
            yield from compare(path, page_keys(page.read()), help_keys(output, f"{kind}: {name}"), "key")


def page_options(text):
    """The long options in items of the page, line by line."""
    options = {}
    for n, line in enumerate(text.split("\n"), 1):
        if line.startswith("=item"):
            for option in re.findall(r"(--[a-z][a-z0-9-]*[a-z0-9])", line):
                options[option] = n
    return options


def options(root, build):
    """Each program's page has exactly the options that the program has."""
    for program, lists, path in _PROGRAMS:
        if not os.path.exists(f"{build}/bin/{program}"):
            continue
        status, output, errors = run(f"{build}/bin/{program}", lists)
        if status != 0:
            yield path, 1, f"'{program} {lists}' failed: {errors.strip()}"
            continue
        shown = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])", output))
        with open(os.path.join(root, path), encoding="utf-8") as page:
            yield from compare(path, page_options(page.read()), shown, "option")
