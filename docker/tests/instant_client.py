"""Stands in for Oracle Instant Client, which only its user may download.

A library that answers what a driver asks for while it loads, and nothing beyond.
"""

import re
import sys
import zipfile
from pathlib import Path
from typing import Set

from engine import run

SOURCE = """
typedef int sword;
static char handle[65536];
sword OCIEnvNlsCreate(void **env) { *env = handle; return 0; }
sword OCIHandleAlloc(void *parent, void **out) { *out = handle; return 0; }
sword OCIDescriptorAlloc(void *parent, void **out) { *out = handle; return 0; }
sword OCIThreadKeyGet(void *env, void *error, void *key, void **out)
{ *out = handle; return 0; }
void OCIClientVersion(int *major, int *minor, int *update, int *patch, int *port)
{ *major = 21; *minor = 13; *update = *patch = *port = 0; }
"""
#: What the library says it is.
VERSION = (21, 13, 0, 0, 0)
LIBRARY = "libclntsh.so.21.1"
#: Where Oracle's own rpm has it.
FOLDER = "usr/lib/oracle/21/client64/lib"

SPEC = """
Name: oracle-instantclient-basic
Version: 21.13.0.0.0
Release: 1
Summary: Stands in for Oracle Instant Client
License: None
AutoReqProv: no
%description
Stands in for Oracle Instant Client.
%install
mkdir -p %{{buildroot}}/{folder}
cp -a {source}/. %{{buildroot}}/{folder}/
%files
/{folder}
"""


def library(folder: Path) -> Path:
    """Compile the library for all that the drivers ask for."""
    names = {*_asked_for("cx_Oracle", "3.10", folder)}
    names.update(_asked_for("oracledb", "3.11", folder))
    rest = {name for name in names if f"{name}(" not in SOURCE}
    source = folder / "client.c"
    source.write_text(
        SOURCE
        + "".join(f"sword {name}(void) {{ return 0; }}\n" for name in sorted(rest)),
        encoding="ascii",
    )
    # As Oracle's, it needs libaio.
    (folder / "empty.c").write_text("", encoding="ascii")
    shared = ["gcc", "-shared", "-fPIC", "-w"]
    run(
        *(*shared, "-Wl,-soname,libaio.so.1", "-o", folder / "libaio.so"),
        folder / "empty.c",
    )
    made = folder / LIBRARY
    run(
        *(*shared, f"-Wl,-soname,{LIBRARY}", "-Wl,--no-as-needed", "-o", made),
        *(source, f"-L{folder}", "-laio"),
    )
    return made


def _asked_for(driver: str, python: str, folder: Path) -> Set[str]:
    """The functions of Oracle's library whose names a driver's wheel holds."""
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--only-binary=:all:", f"--python-version={python}", driver),
        *("--dest", folder),
    )
    (wheel,) = folder.glob(f"{driver}-*.whl")
    with zipfile.ZipFile(str(wheel)) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
        code = b"".join(archive.read(module) for module in modules)
    return {name.decode() for name in re.findall(rb"\0(OCI[A-Za-z0-9]+)(?=\0)", code)}


def rpm(library: Path, folder: Path) -> Path:
    """An rpm, laid out and compressed as Oracle's, with the link that it has."""
    content = folder / "content"
    content.mkdir()
    (content / library.name).write_bytes(library.read_bytes())
    (content / "libclntsh.so").symlink_to(library.name)
    spec = folder / "client.spec"
    spec.write_text(SPEC.format(folder=FOLDER, source=content), encoding="ascii")
    run(
        *("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}"),
        *("--define", "_binary_payload w6.xzdio", "--target", "x86_64", spec),
    )
    (made,) = folder.glob("RPMS/*/*.rpm")
    return made


def zip_file(library: Path, path: Path) -> Path:
    """A zip, without the link, as of Instant Client 12.1 and before."""
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(str(library), f"instantclient_21_13/{library.name}")
        archive.writestr("META-INF/MANIFEST.MF", "")
    return path
