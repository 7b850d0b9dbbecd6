/* SPDX-License-Identifier: Apache-2.0 */
/* What container images say of themselves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/serve/oci_json.h"

#define A  "aaaaaaaaaaaaaaaa"
#define B  "bbbbbbbbbbbbbbbb"
#define HA A A A A
#define HB B B B B

static void test_digests(void **state)
{
    char hex[DIGEST_HEX_SIZE];
    struct digest d;

    (void)state;
    assert_true(digest_parse("sha256:" HA, hex));
    assert_string_equal(hex, HA);
    assert_false(digest_parse("sha512:" HA, hex));
    assert_false(digest_parse("sha256:" HA "a", hex));
    assert_false(digest_parse("sha256:" A A A, hex));
    assert_false(digest_parse("sha256:" A A A "aaaaaaaaaaaaaaaA", hex));
    assert_false(digest_parse("sha256:" A A A "aaaaaaaaaaaaa/..", hex));
    assert_false(digest_parse("", hex));
    /* FIPS 180-4's example. */
    digest_init(&d);
    digest_add(&d, "a", 1);
    digest_add(&d, "bc", 2);
    digest_take(&d, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223"
                             "b00361a396177a9cb410ff61f20015ad");
    digest_take(&d, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb924"
                             "27ae41e4649b934ca495991b7852b855");
}

static int read_index(const char *text, struct oci_ref *ret_ref)
{
    return oci_json_read_index(text, strlen(text), ret_ref, NULL);
}

static void test_index(void **state)
{
    struct oci_ref ref;

    (void)state;
    assert_int_equal(read_index("{\"manifests\":["
                                "{\"digest\":\"sha256:" HA "\",\"platform\":"
                                "{\"architecture\":\"arm64\",\"os\":\"linux\"}}"
                                ",{\"digest\":\"sha256:" HB "\",\"platform\":"
                                "{\"architecture\":\"amd64\",\"os\":\"linux\"}}"
                                "]}",
                         &ref),
        0);
    assert_string_equal(ref.hex, HB);
    assert_false(ref.is_index);
    assert_int_equal(
        read_index("{\"manifests\":[{\"digest\":\"sha256:" HA
                   "\",\"mediaType\":\"application/vnd.oci.image.index.v1+json"
                   "\"}]}",
            &ref),
        0);
    assert_true(ref.is_index);
    assert_int_equal(read_index("{\"manifests\":[{\"digest\":\"sha256:" HA
                                "\",\"platform\":{\"architecture\":\"arm64\"}}"
                                "]}",
                         &ref),
        -ENOENT);
    assert_int_equal(read_index("{\"manifests\":[]}", &ref), -ENOENT);
    assert_int_equal(read_index("{\"manifests\":{}}", &ref), -EBADMSG);
    assert_int_equal(read_index("{\"manifests\":[{}]}", &ref), -EBADMSG);
    assert_int_equal(read_index("[]", &ref), -EBADMSG);
    assert_int_equal(read_index("", &ref), -EBADMSG);
}

static int read_manifest(const char *text, struct oci_manifest *ret_manifest)
{
    return oci_json_read_manifest(text, strlen(text), ret_manifest, NULL);
}

static void test_manifest(void **state)
{
    struct oci_manifest m;

    (void)state;
    assert_int_equal(
        read_manifest("{\"config\":{\"digest\":\"sha256:" HA "\"},\"layers\":"
                      "[{\"digest\":\"sha256:" HB "\"},{\"digest\":\"sha256:" HA
                      "\"}]}",
            &m),
        0);
    assert_string_equal(m.config, "blobs/sha256/" HA);
    assert_int_equal(m.layer_count, 2);
    assert_string_equal(m.layers[0].name, "blobs/sha256/" HB);
    assert_string_equal(m.layers[1].hex, HA);
    oci_manifest_fini(&m);
    assert_int_equal(
        read_manifest("{\"config\":{},\"layers\":[]}", &m), -EBADMSG);
    assert_int_equal(
        read_manifest("{\"config\":{\"digest\":\"sha256:" HA "\"}}", &m),
        -EBADMSG);
    assert_int_equal(
        read_manifest("{\"config\":{\"digest\":\"sha256:" HA "\"},\"layers\":"
                      "[{\"digest\":\"sha256:../../etc\"}]}",
            &m),
        -EBADMSG);
}

static void test_too_many_layers(void **state)
{
    size_t room = 128 * (OCI_LAYERS_MAX + 4);
    char *text = malloc(room);
    struct oci_manifest m;
    size_t at;

    (void)state;
    assert_non_null(text);
    at = (size_t)snprintf(
        text, room, "{\"config\":{\"digest\":\"sha256:" HA "\"},\"layers\":[");
    for (unsigned int i = 0; i <= OCI_LAYERS_MAX; i++)
        at += (size_t)snprintf(text + at, room - at,
            "%s{\"digest\":\"sha256:" HA "\"}", i == 0 ? "" : ",");
    (void)snprintf(text + at, room - at, "]}");
    assert_int_equal(read_manifest(text, &m), -EBADMSG);
    free(text);
}

static int read_docker(const char *text, struct oci_manifest *ret_manifest)
{
    return oci_json_read_docker(text, strlen(text), ret_manifest, NULL);
}

static void test_docker(void **state)
{
    struct oci_manifest m;

    (void)state;
    assert_int_equal(read_docker("[{\"Config\":\"" HA ".json\",\"RepoTags\":"
                                 "null,\"Layers\":[\"" HB "/layer.tar\",\"" HB
                                 ".tar\",\"blobs/sha256/" HB "\"]}]",
                         &m),
        0);
    assert_string_equal(m.config, HA ".json");
    assert_string_equal(m.config_hex, HA);
    assert_int_equal(m.layer_count, 3);
    /* The folder is called by an id, which is no digest of what is in it. */
    assert_string_equal(m.layers[0].hex, "");
    assert_string_equal(m.layers[2].hex, HB);
    oci_manifest_fini(&m);
    assert_int_equal(
        read_docker("[{\"Config\":\"x\",\"Layers\":[]},{}]", &m), -EINVAL);
    assert_int_equal(read_docker("[]", &m), -EBADMSG);
    assert_int_equal(read_docker("[{\"Layers\":[]}]", &m), -EBADMSG);
    assert_int_equal(
        read_docker("[{\"Config\":\"x\",\"Layers\":[1]}]", &m), -EBADMSG);
}

#define FOR_US                                                                 \
    "\"architecture\":\"amd64\",\"os\":\"linux\","                             \
    "\"rootfs\":{\"diff_ids\":[\"sha256:" HA "\"]}"

static int read_config(const char *text, struct oci_config *ret_config)
{
    struct err err;

    return oci_json_read_config(text, strlen(text), ret_config, &err);
}

static void test_config(void **state)
{
    struct oci_config c;

    (void)state;
    assert_int_equal(
        read_config("{" FOR_US ",\"config\":{\"Entrypoint\":[\"/bin/e\"],"
                    "\"Cmd\":[\"a\",\"b\"],\"Env\":[\"X=1\",\"Y\",\"=z\",\"Z="
                    "\"],\"WorkingDir\":\"/srv\",\"User\":\"web:staff\"}}",
            &c),
        0);
    assert_string_equal(c.command.argv[0], "/bin/e");
    assert_string_equal(c.command.argv[2], "b");
    assert_null(c.command.argv[3]);
    assert_string_equal(c.command.env[0], "X=1");
    assert_string_equal(c.command.env[1], "Z=");
    assert_null(c.command.env[2]);
    assert_string_equal(c.command.cwd, "/srv");
    assert_string_equal(c.command.user, "web");
    assert_int_equal(c.diff_id_count, 1);
    assert_string_equal(c.diff_ids[0], HA);
    oci_config_fini(&c);
    assert_int_equal(read_config("{" FOR_US ",\"config\":{\"Cmd\":null,"
                                 "\"Entrypoint\":null,\"User\":\"10:20\"}}",
                         &c),
        0);
    assert_null(c.command.argv[0]);
    assert_string_equal(c.command.user, "10:20");
    assert_null(c.command.cwd);
    oci_config_fini(&c);
    assert_int_equal(read_config("{" FOR_US "}", &c), 0);
    oci_config_fini(&c);
}

static void test_bad_configs(void **state)
{
    static const char *const bad[] = {
        "{" FOR_US ",\"config\":{\"Cmd\":\"x\"}}",
        "{" FOR_US ",\"config\":{\"Cmd\":[1]}}",
        "{" FOR_US ",\"config\":{\"Cmd\":[\"a\\u0000b\"]}}",
        "{" FOR_US ",\"config\":{\"WorkingDir\":\"srv\"}}",
        "{" FOR_US ",\"config\":{\"User\":\":\"}}",
        "{\"architecture\":\"amd64\",\"os\":\"linux\"}",
        "{\"rootfs\":{\"diff_ids\":[]}}",
        "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"diff_ids\":"
        "[\"" HA "\"]}}",
        "null",
    };
    struct oci_config c;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(read_config(bad[i], &c), -EBADMSG);
    assert_int_equal(read_config("{\"architecture\":\"arm64\",\"os\":\"linux\","
                                 "\"rootfs\":{\"diff_ids\":[]}}",
                         &c),
        -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_too_many_layers),
        cmocka_unit_test(test_docker),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_bad_configs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
