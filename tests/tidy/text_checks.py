# SPDX-License-Identifier: BSD-3-Clause
"""The checks of every text file. Each is a function of (path, text) that yields (line, what)."""

import ast
import re

_LINES_MAX = 500
_FUNCTION_MAX = 70
# No place for a comment, or the licence itself.
_NO_SPDX = re.compile(r"\.json$|^LICENSE$|(^|/)\.git\w+$|^\.clang-format$")
_SPDX = "SPDX-License-" + "Identifier: BSD-3-Clause"
# In two pieces, so that this file passes its own test.
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
_DEVELOPER = re.compile(r"(?<![\w.$}~/-])/(home|Users|wo" + r"rk|mnt/c)/\w|(?<![\w.])/tmp/w" + r"t\b")
# `src/async/`, `tools/test`; and only documents anywhere else.
_PATH_IN_DOCUMENT = re.compile(r"`((?:src|plugins|filters|tests|tools|docs|man|include|lib/handoff|cmake|dist)/[\w./-]*)")
_DOCUMENT = re.compile(r"(?<![\w/])docs/[\w-]+\.md\b")


def size(path, text):
    lines = text.count("\n")
    if lines > _LINES_MAX and path != "LICENSE":
        yield lines, f"a file of {lines} lines; the limit is {_LINES_MAX}"


def licence(path, text):
    lines = text.split("\n")
    if path.endswith((".md", ".pod")):
        lines = lines[:3]  # Below may be examples of files.
    found = [n for n, line in enumerate(lines, 1) if "SPDX-License-" + "Identifier" in line]
    if _NO_SPDX.search(path):
        return
    if len(found) != 1 or _SPDX not in text:
        yield (found[-1] if found else 1), f"wants exactly one line '{_SPDX}'"
    elif found[0] > 3:
        yield found[0], "the licence line stands on top"


def leftovers(path, text):
    for n, line in enumerate(text.split("\n"), 1):
        unfinished = _UNFINISHED.search(line)
        if unfinished:
            yield n, f"'{unfinished.group()}': finish it, or write an issue"
        if _DEVELOPER.search(line):
            yield n, "an absolute path of somebody's machine"


def whitespace(path, text):
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "the last line has no end"
    for n, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield n, "blanks at the end of the line"


def script_functions(path, text):
    """The limit on functions, for Python and bash."""
    first = text.split("\n", 1)[0]
    if path.endswith(".py") or "python" in first:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _too_long(node.lineno, node.end_lineno)
    elif path.endswith(".sh") or "bash" in first or first.endswith("/sh"):
        begin = 0
        for n, line in enumerate(text.split("\n"), 1):
            if re.match(r"[\w-]+\(\) [{(]", line):
                begin = n
            elif re.match(r"[})]", line) and begin:
                yield from _too_long(begin, n)
                begin = 0


def _too_long(begin, end):
    if end - begin + 1 > _FUNCTION_MAX:
        yield begin, f"a function of {end - begin + 1} lines; the limit is {_FUNCTION_MAX}"


def named_paths(path, text):
    """The paths of the tree that a document names, and the documents that comments name."""
    document = path.endswith(".md")
    if path.startswith("tests/tidy/"):
        return  # samples
    pattern = _PATH_IN_DOCUMENT if document else _DOCUMENT
    example = False
    for n, line in enumerate(text.split("\n"), 1):
        example ^= document and line.startswith("```")
        for name in [] if example else pattern.findall(line):
            if "NAME" not in name:
                yield n, name


CHECKS = [size, licence, leftovers, whitespace, script_functions]
