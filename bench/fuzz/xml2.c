/* SPDX-License-Identifier: Apache-2.0 */
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void be_quiet(void *context, const char *fmt, ...)
{
    (void)context;
    (void)fmt;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    xmlInitParser();
    xmlSetGenericErrorFunc(NULL, be_quiet);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    xmlDocPtr doc = xmlReadMemory((const char *)data, (int)size, "input.xml",
        NULL, XML_PARSE_NONET | XML_PARSE_NOENT);

    if (doc != NULL) {
        xmlChar *text;
        int len;

        xmlDocDumpMemory(doc, &text, &len);
        xmlFree(text);
        xmlFreeDoc(doc);
    }
    return 0;
}
