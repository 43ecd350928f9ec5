# SPDX-License-Identifier: BSD-3-Clause
"""The plugins of Debian's nbdkit: how each is run so that two servers can be compared.

RECIPES: name -> (what is compared, arguments). `data`: size and all bytes. `size`: the bytes are
another random choice each time. `crash`: it does not work in either. `refusal`: it cannot run here, and the words in which it says so.
"""

import os
import time

_DISK = bytes((i * 7 + i // 256) % 251 for i in range(65536))

_SCRIPTS = {
    "python": """
import nbdkit
API_VERSION = 2
disk = bytes((i * 7 + i // 256) % 251 for i in range(65536))
def config(key, value):
    assert (key, value) == ("key", "value")
def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL
def open(readonly):
    return {"readonly": readonly, "name": nbdkit.export_name()}
def get_size(h):
    return len(disk)
def pread(h, buf, offset, flags):
    buf[:] = disk[offset:offset + len(buf)]
""",
    "perl": """
my $disk = pack "C*", map { ($_ * 7 + int($_ / 256)) % 251 } 0 .. 65535;
sub config { }
sub open { return {}; }
sub get_size { return length $disk; }
sub pread { my ($h, $count, $offset, $flags) = @_; return substr $disk, $offset, $count; }
1;
""",
    "lua": """
local t = {}
for i = 0, 65535 do t[#t + 1] = string.char((i * 7 + i // 256) % 251) end
local disk = table.concat(t)
function config(key, value) end
function open(readonly) return {} end
function get_size(h) return #disk end
function pread(h, count, offset) return string.sub(disk, offset + 1, offset + count) end
""",
    "ruby": """
$disk = (0..65535).map { |i| (i * 7 + i / 256) % 251 }.pack("C*")
def config(key, value) end
def open(readonly) {} end
def get_size(h) $disk.bytesize end
def pread(h, count, offset) $disk.byteslice(offset, count) end
""",
    "tcl": """
set disk {}
for {set i 0} {$i < 65536} {incr i} { append disk [binary format c [expr {($i * 7 + $i / 256) % 251}]] }
proc config {key value} {}
proc plugin_open {readonly} { return 1 }
proc get_size {h} { return 65536 }
proc pread {h count offset} { global disk; return [string range $disk $offset [expr {$offset + $count - 1}]] }
""",
}

_C_SOURCE = """
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
static void *c_open (int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
static int64_t c_get_size (void *h) { return 65536; }
static int c_pread (void *h, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{ for (uint32_t n = 0; n < count; ++n) ((unsigned char *)buf)[n] = ((offset + n) * 7) % 251; return 0; }
static struct nbdkit_plugin plugin =
{ .name = "inline", .open = c_open, .get_size = c_get_size, .pread = c_pread };
NBDKIT_REGISTER_PLUGIN (plugin)
"""


def _write(path, content):
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def make(folder, include):
    """The files that the recipes need, and the recipes."""
    disk = _write(f"{folder}/disk", _DISK)
    other = _write(f"{folder}/other", _DISK[::-1])
    os.mkdir(f"{folder}/files")
    _write(f"{folder}/files/one", "hello")
    # When a file was read last is on the disk too, and is not changed within a day.
    for path in (f"{folder}/files/one", f"{folder}/files"):
        os.utime(path, (time.time(), 10**9))
    script = _write(f"{folder}/script.sh", 'case $1 in get_size) echo 64K;; pread) tail -c +$(($4 + 1)) '
                    f'{disk} | head -c $3;; *) exit 2;; esac\n')
    os.chmod(script, 0o755)
    source = _write(f"{folder}/plugin.c", _C_SOURCE)
    recipes = {
        "cc": ("data", [source, f"CFLAGS=-I{include} -fPIC -shared"]),
        "cdi": ("refusal", []),
        "curl": ("data", [f"url=file://{disk}", "protocols=file"]),
        "data": ("data", ["(0x55 0xAA)*2048 @0x10000 1 2 3", "size=1M"]),
        "eval": ("data", ["get_size=echo 64K", f"pread=tail -c +$(($4 + 1)) {disk} | head -c $3"]),
        "file": ("data", [disk]),
        "floppy": ("data", [f"{folder}/files"]),
        "full": ("data", ["1M"]),
        "info": ("data", ["mode=exportname"]),
        "iso": ("refusal", [f"{folder}/files", "prog=/bin/false"]),
        "linuxdisk": ("size", [f"{folder}/files"]),
        "memory": ("data", ["1M"]),
        "nbd": ("data", ["command=/usr/bin/nbdkit", "arg=--exit-with-parent", "arg=file", f"arg={disk}"]),
        "null": ("data", ["1M"]),
        "ondemand": ("size", [f"dir={folder}", "size=4M"]),
        "partitioning": ("data", [disk, other, "partition-type=mbr", "mbr-id=0x83"]),
        "pattern": ("data", ["1M"]),
        "random": ("data", ["1M", "seed=1"]),
        "sh": ("data", [script]),
        "sparse-random": ("data", ["16M", "seed=3"]),
        "split": ("data", [disk, other]),
        "ssh": ("refusal", ["host=localhost", "/none"]),
        "tmpdisk": ("size", ["4M"]),
        "torrent": ("refusal", []),
        "zero": ("data", []),
        "guestfs": ("refusal", []),
        "libvirt": ("refusal", ["domain=none", "disk=none"]),
    }
    for language, text in _SCRIPTS.items():
        recipes[language] = ("crash" if language == "ruby" else "data", [_write(f"{folder}/script.{language}", text), "key=value"])
    return recipes
