"""Compiles the kernels under target/kernels with Microsoft's shader compiler, DXC, as wgpu asks for them on DirectX 12.

`make test-dxc` writes the kernels before. DXC is a library within the source archive of the Python package compushady, and is kept under
target/dxc. pip runs the package's setup.py to ask for its name, but builds and installs nothing.
"""

import concurrent.futures
import ctypes
import pathlib
import platform
import re
import subprocess
import sys
import tarfile
import time
import uuid

from verdict import end, kernels

PACKAGE = "compushady==0.17.5 --hash=sha256:5052caf9e955d8e7a48e22f536e82b44b72e83af46e824a9e99157c7809de691"
FOLDER = pathlib.Path("target/dxc")
LIBRARIES = {
    ("Linux", "x86_64"): "libdxcompiler_x86_64.so.3.7",
    ("Linux", "aarch64"): "libdxcompiler_aarch64.so.3.7",
    ("Darwin", "x86_64"): "libdxcompiler.3.7.dylib",
    ("Darwin", "arm64"): "libdxcompiler.3.7.dylib",
}
COMPILER_CLASS = uuid.UUID("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
COMPILER = uuid.UUID("228b4687-5a6a-4730-900c-9702b2203f54")
RESULT = uuid.UUID("58346cda-dde7-4497-9461-6f87af5e0659")
VERSION = uuid.UUID("b04f5b50-2059-4f12-a8ff-a1e0cde1cc7e")
UTF8 = 65001

# Kernels that DXC must refuse, or the check says nothing: one for its front end, one for the validation of what it made.
WRONG = {
    "a name that is not declared": "[numthreads(64, 1, 1)] void main(uint3 id : SV_DispatchThreadID) { missing[id.x] = 1.0; }",
    "64 KiB of shared memory": """RWByteAddressBuffer y : register(u0); groupshared uint rows[16384];
        [numthreads(64, 1, 1)] void main(uint3 id : SV_DispatchThreadID) {
            rows[id.x] = y.Load(id.x); GroupMemoryBarrierWithGroupSync(); y.Store(id.x, rows[y.Load(0)]); }""",
}
# Only Microsoft's own library signs; the code is the same.
UNSIGNED = "warning: DXIL.dll not found.  Resulting DXIL will not be signed for use in release environments."
# naga writes parentheses around every comparison.
QUIET = ["-Wno-parentheses-equality"]


class Buffer(ctypes.Structure):
    """DxcBuffer."""

    _fields_ = [("text", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


def method(this, index, *types, returns=ctypes.c_int32):
    """The method of a COM object at a place of its table. Outside Windows DXC has two destructors after the three methods of IUnknown."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    function = ctypes.CFUNCTYPE(returns, ctypes.c_void_p, *types)(table[index])
    return lambda *values: function(this, *values)


def release(this):
    method(this, 2, returns=ctypes.c_uint32)()


def succeed(status, what):
    if status < 0:
        raise OSError(f"DXC: {what} failed with {status & 0xFFFFFFFF:#x}")


class Compiler:
    """IDxcCompiler3."""

    def __init__(self, path):
        self.this = ctypes.c_void_p()
        create = ctypes.CDLL(str(path)).DxcCreateInstance
        create.restype = ctypes.c_int32
        succeed(create(COMPILER_CLASS.bytes_le, COMPILER.bytes_le, ctypes.byref(self.this)), "DxcCreateInstance")

    def version(self):
        """Major and minor version; the minor one is that of the newest shader model, too."""
        info, numbers = ctypes.c_void_p(), (ctypes.c_uint32(), ctypes.c_uint32())
        query = method(self.this, 0, ctypes.c_char_p, ctypes.c_void_p)
        succeed(query(VERSION.bytes_le, ctypes.byref(info)), "QueryInterface")
        succeed(method(info, 5, ctypes.c_void_p, ctypes.c_void_p)(*map(ctypes.byref, numbers)), "GetVersion")
        release(info)
        return numbers[0].value, numbers[1].value

    def compile(self, text, model, half):
        """Whether a kernel compiles for a shader model 6.x, with types of 16 bits or without, and what DXC says of it."""
        # As wgpu's, which asks for no warnings, too.
        words = ["-E", "main", "-T", f"cs_6_{model}", "-HV", "2018", "-Ges", *["-enable-16bit-types"] * half, *QUIET]
        text = text.encode()
        source, result = Buffer(text, len(text), UTF8), ctypes.c_void_p()
        arguments = (ctypes.c_wchar_p * len(words))(*words)
        types = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        call = method(self.this, 5, *types)
        succeed(call(ctypes.byref(source), arguments, len(words), None, RESULT.bytes_le, ctypes.byref(result)), "Compile")
        status, said = ctypes.c_int32(), ctypes.c_void_p()
        succeed(method(result, 5, ctypes.c_void_p)(ctypes.byref(status)), "GetStatus")
        succeed(method(result, 7, ctypes.c_void_p)(ctypes.byref(said)), "GetErrorBuffer")
        message = ""
        if said:
            start = method(said, 5, returns=ctypes.c_void_p)()
            size = method(said, 6, returns=ctypes.c_size_t)()
            message = ctypes.string_at(start, size).decode(errors="replace").rstrip("\0")
            release(said)
        release(result)
        return status.value >= 0, message.replace(UNSIGNED, "").strip()


def library():
    """Path of DXC, which is downloaded where it is not there yet."""
    here = (platform.system(), platform.machine())
    if here not in LIBRARIES:
        sys.exit(f"test-dxc: the archive has no DXC for {' '.join(here)}: run this on Linux or macOS")
    path = FOLDER / LIBRARIES[here]
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = FOLDER / "requirements.txt"
    wanted.write_text(PACKAGE + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    if subprocess.run([*pip, "--dest", str(FOLDER), "-r", str(wanted)]).returncode != 0:
        sys.exit("test-dxc: pip has not downloaded the archive: see above. It takes network, and python3-pip (apt install python3-pip)")
    (archive,) = FOLDER.glob("compushady-*.tar.gz")
    with tarfile.open(archive) as files:
        (member,) = (file for file in files.getmembers() if file.name.endswith("/" + path.name))
        content = files.extractfile(member).read()
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.rename(path)
    archive.unlink()
    return path


def start(path):
    global compiler
    compiler = Compiler(path)
    return compiler


def check(text, newest):
    """What DXC says of a kernel with the oldest shader model that has its types, and with the newest: errors, then warnings."""
    half = re.search(r"\bhalf[234]?\b", text) is not None
    errors, warnings = [], []
    for model, sixteen in [(2, True) if half else (0, False), (newest, True)]:
        compiled, message = compiler.compile(text, model, sixteen)
        if not compiled:
            errors.append(f"cs_6_{model}: {message}")
        warnings.extend(re.findall("warning: (.*)", message))
    return errors, warnings


def main():
    started = time.time()
    texts = kernels("hlsl")
    path = library()
    major, newest = start(path).version()
    for what, text in WRONG.items():
        if compiler.compile(text, newest, True)[0]:
            sys.exit(f"test-dxc: DXC compiles a kernel with {what}, so that this check would say nothing")
    answers = {}
    with concurrent.futures.ProcessPoolExecutor(initializer=start, initargs=(path,)) as pool:
        running = {name: pool.submit(check, text, newest) for name, text in texts.items()}
        for name, kernel in running.items():
            try:
                answers[name] = kernel.result()
            except concurrent.futures.process.BrokenProcessPool:
                answers[name] = ["DXC crashed, on this kernel or on one beside it"], []
    models = f"shader models 6.0 (6.2 for numbers of 16 bits) and 6.{newest}"
    end(texts, answers, f"DXC {major}.{newest}, {models}, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
