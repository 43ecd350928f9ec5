# SPDX-License-Identifier: BSD-3-Clause
"""What a client sees of scripts that answer well, badly or not at all, case by case.

usage: script_cases.py NBDKIT sh|eval: one line for each case.
"""

import os
import subprocess
import sys
import tempfile

import nbd

WHOLE = {
    "after_fork": "exit 0",
    "block_size": "echo 1 4K 1M",
    "cache": "exit 0",
    "can_cache": "echo native",
    "can_extents": "exit 0",
    "can_fast_zero": "exit 0",
    "can_flush": "exit 0",
    "can_fua": "echo native",
    "can_multi_conn": "exit 0",
    "can_trim": "exit 0",
    "can_write": "exit 0",
    "can_zero": "exit 0",
    "close": "exit 0",
    "config": "exit 0",
    "config_complete": "exit 0",
    "default_export": "echo chosen",
    "export_description": "echo some text",
    "extents": "echo 0 4K; echo 4K 60K hole,zero",
    "flush": "exit 0",
    "get_ready": "exit 0",
    "get_size": "echo 64K",
    "is_rotational": "exit 0",
    "list_exports": "echo a; echo b",
    "open": "echo handle",
    "pread": "head -c $3 /dev/zero | tr '\\0' x",
    "preconnect": "exit 0",
    "pwrite": "cat >/dev/null",
    "thread_model": "echo parallel",
    "trim": "exit 0",
    "zero": "exit 0",
}



def ends(statuses):
    """Each method with each exit status. What is written is read first: otherwise it is a race which
    error comes."""
    return [
        {method: f"{'cat >/dev/null; ' if method == 'pwrite' else ''}echo ENOSPC why >&2; exit {status}"}
        for method in WHOLE
        for status in statuses
    ]


ANSWERS = [
    {method: body}
    for method, bodies in {
        "pread": [
            *(f"echo {errno} >&2; exit 1" for errno in
              "EPERM EIO ENOMEM EINVAL ENOSPC ESHUTDOWN ENOTSUP EOPNOTSUPP EROFS EFBIG EDQUOT EOVERFLOW ENOENT".split()),
            "echo enospc low >&2; exit 1", "echo ENOSPCx >&2; exit 1", "echo ' ENOSPC' >&2; exit 1",
            "echo ENOSPC: a >&2; exit 1", "printf ENOSPC >&2; exit 1", "echo first >&2; echo ENOSPC >&2; exit 1",
            "kill -9 $$", "head -c 5000 /dev/zero", "printf x", "exit 127", "exit 255",
        ],
        "get_size": ["echo '  64K  '", "echo 64K; echo more", "printf 64K", "echo -1", "echo 0", "echo 1x", "echo 8E"],
        "can_fua": ["echo emulate", "echo none", "echo NATIVE", "echo nativex", "printf native", "echo ' native'"],
        "can_cache": ["echo emulate", "echo none", "echo Native", "echo x"],
        "block_size": [
            "echo 1 2", "echo 1 4K 1M more", "echo 512; echo 4K; echo 1M", "echo 3 4K 1M", "echo 0 0 0",
            "echo 1 4096 4294967295", "echo 1 4K 8G", "echo 1 4K x", "echo 1 5000 1M", "echo 512 4K 1000",
        ],
        "extents": [
            "echo 0 4K; echo 4K 60K 3", "echo 0 4K hole; echo 4K 60K zero,hole", "echo 0 4K zero; echo; echo 4K 60K",
            "echo 0 4K 0x3", "echo 0 4K nonsense", "echo 0 4K 8", "echo 0", "echo 4K 4K", "echo 0 4K 1 more",
            "echo '  0   4K   hole '", "echo 0 4K; echo 8K 1K", "printf '0\\t64K\\thole,zero'", "echo 0 4K hole,nonsense",
            "echo 0 4K zero,", "echo 0 x", "echo 0 0; echo 0 64K", "echo 0 8E", "echo 0 4K; echo 4K 9223372036854775807 3",
        ],
        "list_exports": [
            "echo NAMES; echo a; echo b", "echo INTERLEAVED; echo a; echo d1; echo b",
            "echo INTERLEAVED; echo a; echo d1; echo b; echo d2", "echo NAMES+DESCRIPTIONS; echo a; echo b; echo d1; echo d2",
            "echo NAMES+DESCRIPTIONS; echo a; echo b; echo d1", "echo; echo x", "echo NAMES", "echo NAMES; echo; echo b",
        ],
        "default_export": ["echo NAMES; echo q; echo r", "echo INTERLEAVED; echo q; echo r", "echo a; echo b"],
        "export_description": ["printf 'a\\nb\\n'", "printf 'a\\n\\n'"],
        "open": ["printf 'a b\\n\\n'", "printf 'a\\nb'"],
        "thread_model": ["echo serialize_connections", "echo serialize_requests", "echo nonsense", "printf parallel"],
        "zero": ["echo ENOTSUP >&2; exit 1", "echo EOPNOTSUPP no >&2; exit 1"],
        "missing": ["exit 0", "exit 1", "exit 2"],
    }.items()
    for body in bodies
]
ABSENCES = [{method: None} for method in WHOLE if method != "config"] + [
    {"can_zero": None, "zero": None, "can_fast_zero": None},
    {"can_write": None, "pwrite": None},
    {"can_flush": None, "flush": None, "can_fua": None},
    {"can_trim": None, "trim": None},
    {"can_extents": None, "extents": None},
    {"can_cache": None, "cache": None},
    {"can_cache": "echo emulate", "cache": None},
    {"can_fua": "echo emulate", "flush": "echo ENOSPC why >&2; exit 1"},
    {"list_exports": "exit 2", "default_export": "exit 2"},
    {"list_exports": "exit 2", "default_export": "exit 1"},
    {"missing": "exit 0", "is_rotational": None},
    {"missing": "exit 1", "is_rotational": None},
]


# The plugins differ in what they make of methods that are not there; what is there both read alike.
CASES = {"sh": ends((0, 1, 2, 3, 9)) + ABSENCES + ANSWERS, "eval": ends((1, 2)) + ABSENCES}


class Cases:
    def __init__(self, server, kind, folder):
        self.server = server
        self.kind = kind
        self.script = os.path.join(folder, f"script-{kind}")
        self.calls = os.path.join(folder, "calls")

    def arguments(self, methods):
        log = f'echo "$@" >>{self.calls}\n'
        if self.kind == "eval":
            return ["eval"] + [f"{method}={log}{body}" for method, body in methods.items()]
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(log + 'case "$1" in\n')
            file.writelines(f"{method})\n{body}\n;;\n" for method, body in methods.items())
            file.write("*) exit 2 ;;\nesac\n")
        os.chmod(self.script, 0o755)
        return ["sh", self.script]

    def run(self, changes):
        methods = {method: body for method, body in {**WHOLE, **changes}.items() if body is not None}
        open(self.calls, "w", encoding="utf-8").close()
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.add_meta_context("base:allocation")
        handle.set_opt_mode(True)
        try:
            handle.connect_command([self.server, "-s", "--exit-with-parent", *self.arguments(methods)])
        except nbd.Error:
            return ["no connection"]
        return self.session(handle)

    @staticmethod
    def session(handle):
        seen = []

        def ask(name, call):
            try:
                result = call()
                seen.append(f"{name}={'ok' if result is None else result}")
                return True
            except nbd.Error as error:
                # How the client is told of it is the server's affair, and no description is an empty one.
                told = {"list": "failed", "go": "failed", "description": "none"}.get(name, error.errno or "closed")
                seen.append(f"{name}={told}")
                return False

        def exports():
            names = []
            handle.opt_list(lambda name, description: names.append((name, description)) and 0)
            return names

        def extents(count, offset, flags):
            found = []
            handle.block_status(count, offset, lambda *args: found.append(args[2]) or 0, flags)
            return found

        ask("list", exports)
        handle.set_full_info(True)
        if not ask("go", handle.opt_go):
            return seen
        for question in ("get_size", "is_read_only", "can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero",
                         "can_cache", "can_multi_conn", "is_rotational", "get_canonical_export_name"):
            ask(question, getattr(handle, question))
        ask("description", lambda: handle.get_export_description() or "none")
        ask("block_size", lambda: [handle.get_block_size(i) for i in range(3)])
        ask("read", lambda: handle.pread(4096, 0)[:2])
        ask("write", lambda: handle.pwrite(b"x" * 4096, 0))
        ask("write with fua", lambda: handle.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA))
        ask("flush", handle.flush)
        ask("trim", lambda: handle.trim(4096, 0))
        ask("trim with fua", lambda: handle.trim(4096, 0, nbd.CMD_FLAG_FUA))
        ask("zero", lambda: handle.zero(4096, 0))
        ask("zero without holes", lambda: handle.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE))
        if handle.can_fast_zero():
            ask("fast zero", lambda: handle.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO))
        ask("cache", lambda: handle.cache(4096, 0))
        ask("extents", lambda: extents(8192, 0, 0))
        ask("one extent", lambda: extents(8192, 2048, nbd.CMD_FLAG_REQ_ONE))
        ask("read on", lambda: handle.pread(512, 0)[:1])
        try:
            handle.shutdown()
        except nbd.Error:
            pass  # a server that had nothing more to do may be gone already
        return seen


def main():
    server, kind = sys.argv[1:]
    # What the servers say is not compared; what stops this program is told to who runs it.
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with tempfile.TemporaryDirectory(prefix="nbdkit-e2e-") as folder:
        cases = Cases(server, kind, folder)
        base = cases.run({})
        print("a script that can do all:", base)
        with open(cases.calls, encoding="utf-8") as file:
            print("its calls:", sorted(set(file.read().splitlines())))
        for changes in CASES[kind]:
            # What is different says more than all of it.
            print(changes, [one for one in cases.run(changes) if one not in base])


main()
