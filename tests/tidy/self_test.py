# SPDX-License-Identifier: BSD-3-Clause
"""Bad samples that the checks must find, and good ones that they must leave alone."""

import code_checks as code
import cpp
import page_checks as pages
import text_checks as text

# check, path, sample, number of problems in it
_CODE = [
    (code.include_edges, "src/base/a.cc", '#include "async/loop.h"\n', 1),
    (code.include_edges, "src/async/a.cc", '#include "base/log.h"\n#include <vector>\n', 0),
    (code.include_edges, "src/async/a_test.cc", '#include "support/test_loop.h"\n', 0),
    (code.include_edges, "src/server/a.cc", '#include "netlink/helper.h"\n', 1),
    (code.include_edges, "src/server/a.cc", '#include "../base/log.h"\n', 2),
    (code.include_edges, "src/newroom/a.cc", "", 1),
    (code.include_edges, "plugins/null/null.cc", '#include "proto/be.h"\n', 1),
    (code.include_edges, "plugins/null/null.cc", '#include "block/layer.h"\n#include "part.h"\n', 0),
    (code.include_edges, "src/block/a.cc", "#include <nlohmann/json.hpp>\n", 1),
    (code.include_edges, "src/attach/a.cc", "#include <linux/nbd-netlink.h>\n", 1),
    (code.include_edges, "src/attach/a.cc", "#include <nbdkit-handoff.h>\n", 1),
    (code.include_edges, "lib/handoff/a.c", '#include "base/json.h"\n', 1),
    (code.include_edges, "lib/handoff/a.c", '#include "a.h"\n#include "nbdkit-handoff.h"\n', 0),
    (code.include_edges, "lib/handoff/a_test.cc", '#include "base/json.h"\n', 0),
    (code.include_edges, "lib/handoff/a_test.cc", '#include "async/loop.h"\n', 1),
    (code.include_edges, "tests/fuzz/a_fuzz.cc", '#include "lib/handoff/handoff_wire.h"\n', 0),
    (code.function_length, "a.cc", "void f() {\n" + "  g();\n" * 69 + "}\n", 1),
    (code.function_length, "a.cc", "void f() {\n" + "  g();\n" * 68 + "}\n", 0),
    (code.function_length, "a.cc", "struct S {\n  S(int a)\n : a_{a} {\n" + "  g();\n" * 70 + "}\n int a_; };\n", 1),
    (code.function_length, "a.cc", "namespace a { namespace {\n" + "int f() { return {}; }\n" * 90 + "}}\n", 0),
    (code.function_length, "a.cc", "TEST_F(A, B) {\n" + "  { g(); }\n" * 70 + "}\n", 1),
    (code.exceptions, "a.cc", "void f() { throw 1; }\n", 1),
    (code.exceptions, "a.cc", "void f() { try { g(); } catch (...) {} }\n", 2),
    (code.exceptions, "a.cc", "// to throw, to try\nconst char* k = \"throw\";\n", 0),
    (code.mutable_globals, "a.cc", "int n;\n", 1),
    (code.mutable_globals, "a.cc", "namespace {\nstd::map<int, int> table;\n}\n", 1),
    (code.mutable_globals, "a.cc", "constinit std::atomic<int> n{0};\n", 1),
    (code.mutable_globals, "a.cc", "const char* name = \"x\";\n", 1),
    (code.mutable_globals, "a.cc", "const char* const name = \"x\";\nconstexpr int k[] = {1, 2};\n", 0),
    (code.mutable_globals, "a.cc", "const std::string name = \"x\";\n", 1),
    (code.mutable_globals, "a.cc", "void f() { static int n = 0; }\n", 1),
    (code.mutable_globals, "a.cc", "void f() { static const int n = 0; }\n", 0),
    (code.mutable_globals, "a.cc", "void f() { thread_local char text[64]; }\n", 1),
    (code.mutable_globals, "a.cc", "thread_local Pool pool;\n", 1),
    (code.mutable_globals, "a.cc", "struct S { static int n; };\n", 1),
    (code.mutable_globals, "a.cc", "struct S { int n = 0; static S make(int); friend class T; };\n", 0),
    (code.mutable_globals, "a.cc", "using A = int;\nclass B;\nint f(int);\nenum class E { a };\nvoid g() { int n = 0; }\n", 0),
    (code.mutable_globals, "a.cc", "template <typename T>\nclass V;\ntemplate <typename T>\nT x{};\n", 1),
    (code.mutable_globals, "a.cc", 'extern "C" {\nint nbdkit_debug_x = 1;\n}\n', 1),
    (code.await_forms, "a.cc", "T f() { co_await g(); }\n", 0),
    (code.await_forms, "a.cc", "T f() { int n = co_await g(); n = co_await h(); co_return co_await i(); }\n", 0),
    (code.await_forms, "a.cc", "T f() { if (co_await g()) co_return; while (co_await h()) co_await i(); }\n", 0),
    (code.await_forms, "a.cc", "T f() { if (a) co_await g(); else co_await h(); }\n", 0),
    (code.await_forms, "a.cc", "T f() { switch (a) { case A::b: co_await g(); default: co_await h(); } }\n", 0),
    (code.await_forms, "a.cc", "T f() { (void)co_await g().as_result(); }\n", 0),
    (code.await_forms, "a.cc", "T f() { co_await run([this](C& c) { return R{c}; }); }\n", 0),
    (code.await_forms, "a.cc", "struct S { A operator co_await() && noexcept; };\n", 0),
    (code.await_forms, "a.cc", "T f() { g(co_await h()); }\n", 1),
    (code.await_forms, "a.cc", "T f() { int n = a ? co_await g() : 1; }\n", 1),
    (code.await_forms, "a.cc", "T f() { Pair p{co_await g(), 1}; }\n", 1),
    (code.await_forms, "a.cc", "T f() { co_await g({1, 2}); }\n", 1),
    (code.await_forms, "a.cc", "T f() { co_await g(Agg{1, 2}); }\n", 1),
    (code.await_forms, "a.cc", "T f() { return_value(1 + co_await g()); }\n", 1),
    (code.await_forms, "a.cc", "T f() { if (a && co_await g()) co_return; }\n", 1),
    (code.await_forms, "a.cc", "T f() { int n = co_await g() + 1, m = 2; }\n", 1),
    (code.await_forms, "a.cc", "T f() { co_await g(co_await h()); }\n", 2),
    (code.coroutine_lambdas, "a.cc", "void f() { auto g = [this]() -> T { co_await h(); }; }\n", 1),
    (code.coroutine_lambdas, "a.cc", "void f() { run([&] { co_return; }); }\n", 1),
    (code.coroutine_lambdas, "a.cc", "void f() { run([](T& t) -> T { co_await t.h(); }); }\n", 0),
    (code.coroutine_lambdas, "a.cc", "T f() { auto g = [this] { h(); }; co_await g(); }\n", 0),
    (code.locks_over_awaits, "a.cc", "T f() { std::lock_guard lock(m_); co_await g(); }\n", 1),
    (code.locks_over_awaits, "a.cc", "T f() { { std::lock_guard lock(m_); h(); } co_await g(); }\n", 0),
    (code.coroutine_parameters, "a.cc", "T f(std::string&& s) { co_await g(); }\n", 1),
    (code.coroutine_parameters, "a.cc", "T f(int a, std::string_view s) { co_await g(); }\n", 1),
    (code.coroutine_parameters, "a.cc", "// s is a literal.\nT f(std::string_view s) { co_await g(); }\n", 0),
    (code.coroutine_parameters, "a.cc", "T f(std::string_view s) { return g(s); }\n", 0),
]
_LICENCE = "// SPDX-License-" + "Identifier: BSD-3-Clause\n"
_TEXT = [
    (text.size, "a.cc", "\n" * 501, 1),
    (text.size, "a.cc", "\n" * 500, 0),
    (text.licence, "a.cc", "int n;\n", 1),
    (text.licence, "a.cc", _LICENCE + _LICENCE, 1),
    (text.licence, "a.cc", _LICENCE.replace("BSD-3", "GPL-2"), 1),
    (text.licence, "a.cc", _LICENCE, 0),
    (text.licence, "a.json", "{}\n", 0),
    (text.leftovers, "a.cc", "// TO" + "DO: later\n", 1),
    (text.leftovers, "a.sh", "cd /ho" + "me/somebody/src\n", 1),
    (text.leftovers, "a.sh", 'cd "$prefix/home/x" /var/tmp\n', 0),
    (text.whitespace, "a.cc", "a \nb", 2),
    (text.script_functions, "a.py", "def f():\n" + "    g()\n" * 70, 1),
    (text.script_functions, "a.sh", "f() {\n" + "  g\n" * 69 + "}\n", 1),
    (text.script_functions, "a.sh", "f() {\n" + "  g\n" * 68 + "}\n", 0),
]
_PAGE = "=head1 NAME\n\n=head1 PARAMETERS\n\n=item [B<size=>]I<SIZE>\n\n=item B<--not-here>\n\n=head1 SEE ALSO\n\n=item B<b=>\n"
_DOCUMENT = "In `src/a/` and `docs/b.md`, not `tests/NAME_test`\n```\n`src/example`\n```\n"
_HELP = "filter: log (l)\n(/x/log.so)\nlogfile=PATH   where\n\nplugin: memory (m)\n(/x)\n[size=]SIZE  how large\nseed=N  what (or sd=)\n"


def _count(check, path, sample):
    if check in text.CHECKS:
        return len(list(check(path, sample)))
    return len(list(check(path, cpp.Source(sample))))


def run():
    """Yields (file, what) for each check that does not find what it must."""
    for check, path, sample, expected in _CODE + _TEXT:
        found = _count(check, path, sample)
        if found != expected:
            yield "self_test.py", f"{check.__name__} found {found} problems instead of {expected} in: {sample[:90]!r}"
    tested = {check for check, _, _, expected in _CODE + _TEXT if expected}
    for check in code.CHECKS + text.CHECKS:
        if check not in tested:
            yield "self_test.py", f"{check.__name__} has no bad sample"
    yield from _run_pages()


def _run_pages():
    bad_module = ["filters/a/a.cc", "filters/b/b.cc", "filters/b/b_test.cc", "filters/b/nbdkit-b-filter.pod", "plugins/x"]
    expectations = {
        "module_folders": (len(list(pages.module_folders(bad_module))), 3),
        "page_sections": (len(list(pages.page_sections("plugins/a/a.pod", "=head1 NAME\n"))), 5),
        "page_keys": (set(pages.page_keys(_PAGE)), {"size"}),
        "help_keys": (pages.help_keys(_HELP, "plugin: memory"), {"size", "seed", "sd"}),
        "compare": (len(list(pages.compare("a.pod", {"a": 1, "b": 2}, {"b", "c"}, "key"))), 2),
        "named_paths": ([name for _, name in text.named_paths("a.md", _DOCUMENT)], ["src/a/", "docs/b.md"]),
        "page_options": (set(pages.page_options("=item B<--run> X, B<--ru-n=>Y\n--no\n")), {"--run", "--ru-n"}),
    }
    for name, (found, expected) in expectations.items():
        if found != expected:
            yield "self_test.py", f"{name} gave {found} instead of {expected}"
