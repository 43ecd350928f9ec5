# SPDX-License-Identifier: BSD-3-Clause
"""The checks of C and C++ files. Each is a function of (path, Source) that yields (line, what)."""

import fnmatch
import re

# What a room may include besides itself; docs/ARCHITECTURE.md draws it. New arrows are argued for.
ROOMS = {
    "base": "",
    "proto": "base",
    "async": "base",
    "guard": "async base",
    "block": "async base",
    "plugin_host": "block async base",
    "script": "block async base",
    "tls": "async base",
    "client": "tls proto async base",
    "server": "tls block proto async base",
    "handoff": "server block proto async base",
    "netlink": "async base",
    "attach": "netlink handoff client guard block async proto base",
    "main": "attach netlink handoff server client tls plugin_host guard block async proto base",
}
# plugins/nbd is the one module that is a client itself; two plugins are scripts.
MODULE_ROOMS = {
    "plugins/nbd": "client tls proto block async base",
    "plugins/sh": "script block async base",
    "plugins/eval": "script block async base",
}
MODULE_DEFAULT = "block async base"
# Libraries that are known in one place only, so that they can be replaced there.
LIBRARIES = {
    r"<nlohmann/": r"src/base/json\.cc",
    r"<CLI/": r"src/main/attach_[a-z_]+\.cc",
    r"<netlink/|<linux/(nbd|genetlink|netlink)": r"src/netlink/",
    r"<gnutls/": r"src/tls/",
    r"<getopt\.h": r"src/main/",
    r".*handoff_wire\.h": r"src/handoff/|lib/handoff/",
    r".*nbdkit-handoff\.h": r"lib/handoff/|include/",
    r".*nbdkit-(plugin|common|version|filter)\.h": r"src/plugin_host/|include/",
}
# Wrappers around libraries that report by exceptions.
MAY_CATCH = {"src/main/attach_options.cc": "CLI11 reports by exceptions"}
# Every variable that outlives its function and can change: where, and why it cannot be otherwise.
GLOBALS = {
    ("src/async/frame_pool.cc", "free_lists"): "an allocator has no other way to its thread's memory",
    ("src/async/frame_pool.cc", "released"): "gives that memory back at the end of the thread",
    ("src/async/thread.cc", "thread_policy"): "whoever starts a thread need not know what it is for",
    ("src/async/busy_poll.cc", "lookers"): "the processors are shared by all loops of a process",
    ("src/async/child.cc", "children_are_ordinary"): "the handler of pthread_atfork() has no argument",
    ("src/base/error_text.cc", "places"): "an Error is made where nobody has memory to lend",
    ("src/base/error_text.cc", "next_place"): "where to look first in the above",
    ("src/base/log_topics.cc", "chosen"): "-D is about the process; who logs has no options to look at",
    ("src/async/task_test.cc", "allocations"): "operator new has no argument of ours",
    ("src/main/nbdkit_signals.cc", "signal_fd"): "a signal handler has no argument of ours",
    ("src/plugin_host/plugin_host.cc", "process_host"): "functions for plugins in C have no context",
    ("src/plugin_host/call_context.cc", "current_call"): "functions for plugins in C have no context",
    ("src/plugin_host/call_context.cc", "once"): "atexit() has no argument and cannot be undone",
    ("src/plugin_host/abi_test.cc", "registered"): "the interface in C asks for a static struct",
    ("tests/plugins/example-cxx.cc", "plugin"): "the interface in C asks for a static struct",
    ("src/tls/trace.cc", "gnutls_log"): "the function that GnuTLS logs with has no argument of ours",
    ("lib/handoff/last_error.c", "last_error"): "the last error of a thread, whatever handle it used",
    ("src/plugin_host/api/process.cc", "text"): "nbdkit's interface returns text that nobody frees",
    ("plugins/sh/sh.cc", "sh_debug_script"): "looked up by name, set by -D",
    ("plugins/eval/eval.cc", "eval_debug_script"): "looked up by name, set by -D",
    ("src/plugin_host/api/messages.cc", "nbdkit_debug_*"): "looked up by name, set by -D",
}
_TESTS = re.compile(r"_test\.(cc|h)$|^tests/|^examples/")
_LINES_MAX = 70


def include_edges(path, source):
    room = re.match(r"src/(\w+)/", path)
    module = re.match(r"((?:plugins|filters)/[\w-]+)/", path)
    if room and room.group(1) not in ROOMS:
        yield 1, f"room '{room.group(1)}' is not in the table of tests/tidy/code_checks.py"
        return
    allowed = None
    if room:
        allowed = {room.group(1), *ROOMS[room.group(1)].split()}
    elif module:
        allowed = set(MODULE_ROOMS.get(module.group(1), MODULE_DEFAULT).split())
    elif path.startswith(("lib/", "include/")):
        # Programs of others link to it. Its tests compare it with what the server does.
        allowed = {"base"} if _TESTS.search(path) else set()
    for line, quote, name in source.includes:
        for library, place in LIBRARIES.items():
            if re.match(library, quote + name) and not (re.match(place, path) or _TESTS.search(path)):
                yield line, f"{name} is for {place} only"
        if ".." in name.split("/"):
            yield line, f'"{name}": name the room, not the way to it'
        elsewhere = name.startswith("support/") and _TESTS.search(path) or name.startswith("lib/")
        if quote == "<" or "/" not in name or allowed is None or elsewhere:
            continue
        if name.split("/")[0] not in allowed:
            yield line, f'"{name}": only {" ".join(sorted(allowed)) or "nothing of src/"} may be included here'


def function_length(path, source):
    for scope in source.scopes:
        if scope.kind == "function" and not (scope.parent and scope.parent.function()):
            begin, end = source.tokens[scope.head].line, source.tokens[scope.close].line
            if end - begin + 1 > _LINES_MAX:
                yield begin, f"a function of {end - begin + 1} lines; the limit is {_LINES_MAX}"


def exceptions(path, source):
    if path in MAY_CATCH:
        return
    for token in source.tokens:
        if token.kind == "word" and token.text in ("throw", "try", "catch"):
            yield token.line, f"'{token.text}': errors are values here (base/result.h)"


def mutable_globals(path, source):
    if _TESTS.search(path):
        return  # Fixtures in C and functions put in the place of others cannot do without.
    for line, name, what in _globals_in(source):
        if not _is_listed(path, name):
            yield line, f"'{name}' is {what}: let an owner hold it, or list it in tests/tidy/code_checks.py"


def _is_listed(path, name):
    return any(path == listed and fnmatch.fnmatchcase(name, pattern) for listed, pattern in GLOBALS)


def unused_exceptions(sources):
    """Entries of the lists above that nothing needs any more."""
    for path, pattern in GLOBALS:
        if path in sources and not any(fnmatch.fnmatchcase(name, pattern) for _, name, _ in _globals_in(sources[path])):
            yield path, 1, f"GLOBALS in tests/tidy/code_checks.py lists '{pattern}', which is not there"
    for path in MAY_CATCH:
        if path in sources and not any(token.text == "catch" for token in sources[path].tokens):
            yield path, 1, "MAY_CATCH in tests/tidy/code_checks.py lists this file, which catches nothing"


def _globals_in(source):
    for i, token in enumerate(source.tokens):
        scope = source.scope_of[i]
        kind = scope.kind if scope else "namespace"
        if token.text == ";" and kind in ("namespace", "record"):
            words = _without_bodies(source, source.head_of(i), i)
            is_static = {"static", "inline", "thread_local", "extern"} & set(words)
            if kind == "namespace" or is_static and "friend" not in words:
                yield from _global(words, source.tokens[source.head_of(i)].line)
        elif token.text in ("static", "thread_local") and kind not in ("namespace", "record"):
            if token.text == "thread_local" or source.tokens[i - 1].text != "thread_local":
                end = next(j for j in range(i, len(source.tokens)) if source.tokens[j].text in "=;{")
                yield from _global(_without_bodies(source, i, end), token.line)


def _without_bodies(source, begin, end):
    words = source._without_brackets(begin, end)
    if words[:1] == ["template"]:
        words = [t.text for t in source.tokens[source._after_angles(begin + 1) : end]]
    return words


def _global(words, line):
    declarator = words
    for sign in ("=", "{", "["):
        if sign in declarator and not (sign == "[" and declarator[:1] == ["["]):
            declarator = declarator[: declarator.index(sign)]
    names = [word for word in declarator if re.match(r"[A-Za-z_]\w*$", word)]
    skipped = {"using", "typedef", "static_assert", "operator", "namespace", "return", "enum", "class"}
    if len(names) < 2 or skipped & set(declarator) or "(" in declarator:
        return
    if declarator[0] in ("struct", "union") and (len(names) == 2 or "{" in words):
        return
    if "constexpr" in names:
        return
    after_pointer = declarator[len(declarator) - declarator[::-1].index("*") :] if "*" in declarator else declarator
    if "const" not in after_pointer:
        yield line, names[-1], "a variable that outlives its function"
    elif "std" in names and "*" not in declarator:
        yield line, names[-1], "a global with a constructor"


def await_forms(path, source):
    for i, token in enumerate(source.tokens):
        if token.text == "co_await" and source.tokens[i - 1].text != "operator":
            problem = _await_problem(source, i)
            if problem:
                yield token.line, f"co_await {problem} (g++ 12 may miscompile it): make it a statement"


def _await_problem(source, i):
    tokens = source.tokens
    start = source.head_of(i)
    condition = tokens[start - 1].text == "(" and tokens[start - 2].text in ("if", "while", "switch")
    if tokens[start - 1].text in ("(", "[") and not condition:
        return "in an argument list, a condition of for, or an index"
    if source.scope_of[i].kind == "init":
        return "in braces"
    prefix = " ".join(source._without_brackets(start, i))
    # What may stand in front of a statement, and the casts that silence [[nodiscard]].
    prefix = re.sub(r"^((case [^:]*(:: [^:]*)*|default) : |else |do |(if|while|for|switch)( constexpr)? \( \) )+", "", prefix + " ")
    prefix = re.sub(r"\( \) $", "", prefix).strip()
    if condition and prefix == "!":
        prefix = ""
    if prefix not in ("", "co_return") and not re.fullmatch(r"[\w:<>,&*. \[\]-]+ =", prefix):
        return f"after '{prefix}'"
    end = i + 1
    while end < len(tokens) and tokens[end].text not in (";", ")", "}"):
        if tokens[end].text in ("?", "&&", "||", ",", "=="):
            return f"as a part of an expression with '{tokens[end].text}'"
        end = source.match.get(end, end) + 1
    own = source.scope_of[i].function()
    for j in range(i + 1, end):
        if tokens[j].text == "co_await" and source.scope_of[j].function() is own:
            return "twice in one statement"
        if tokens[j].text == "{" and source.scope_of[j].kind == "init" and source.scope_of[j].function() is own:
            return "of an expression with braces"
    return None


def coroutine_lambdas(path, source):
    for scope in source.scopes:
        if scope.kind == "lambda" and scope.captures and _is_coroutine(source, scope):
            yield source.tokens[scope.open].line, "a capturing lambda is a coroutine: its captures may die first"


def _is_coroutine(source, scope):
    return any(
        source.tokens[i].text in ("co_await", "co_return") and source.scope_of[i].function() is scope
        for i in range(scope.open, scope.close)
    )


def locks_over_awaits(path, source):
    for i, token in enumerate(source.tokens):
        if token.text in ("lock_guard", "unique_lock", "scoped_lock") and source.scope_of[i]:
            scope = source.scope_of[i]
            for j in range(i, scope.close):
                if source.tokens[j].text == "co_await" and source.scope_of[j].function() is scope.function():
                    yield source.tokens[j].line, "co_await while a lock is held"


def coroutine_parameters(path, source):
    """A reference to a temporary, or a view of one, is dead after the first wait."""
    for scope in source.scopes:
        if scope.kind not in ("function", "lambda") or not _is_coroutine(source, scope):
            continue
        close = scope.open - 1
        while source.tokens[close].text != ")" and close > scope.head:
            close -= 1
        parameters = " " + source.text(source.match.get(close, close) + 1, close) + " "
        line = source.tokens[scope.head].line
        if " && " in parameters:
            yield line, "a coroutine takes an rvalue reference: take it by value"
        if re.search(r" string_view | initializer_list ", parameters) and line - 1 not in source.comments:
            yield line, "a coroutine takes a view: take a string, or say in a comment above who keeps it alive"


CHECKS = [
    include_edges,
    function_length,
    exceptions,
    mutable_globals,
    await_forms,
    coroutine_lambdas,
    locks_over_awaits,
    coroutine_parameters,
]
