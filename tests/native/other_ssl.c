/* A library with OpenSSL's names, which says that it is VERSION of number NUMBER; with LACKING, some names are missing.
 * With LOADER, the program that tries to use the library at the path that it is given. */
#include "libssl.h"

#ifdef LOADER

#include <stdio.h>

int main(int argc, char **argv) {
    fastws_libssl api;
    const char *problem;
    if (argc > 2 && !dlopen(argv[2], RTLD_LAZY)) return 1;
    problem = fastws_load_libssl(&api, argv[1]);
    puts(problem ? problem : "it is used");
    return 0;
}

#else

#define STUB(result, name, parameters) \
    void name(void);                   \
    void name(void) {}

#define OpenSSL_version unused_version
#define OpenSSL_version_num unused_number
#ifndef LACKING
FASTWS_LIBSSL_SESSION(STUB)
#endif
FASTWS_LIBSSL_CONTEXT(STUB)
FASTWS_LIBSSL_OTHERS(STUB)
#undef OpenSSL_version
#undef OpenSSL_version_num

const char *OpenSSL_version(int what);
const char *OpenSSL_version(int what) {
    (void)what;
    return VERSION;
}

unsigned long OpenSSL_version_num(void);
unsigned long OpenSSL_version_num(void) {
    return NUMBER;
}

#endif
