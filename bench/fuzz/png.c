/* SPDX-License-Identifier: Apache-2.0 */
#include <png.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* An image that takes more pixels is not read. */
#define PIXELS_MAX 100000u

struct source {
    const uint8_t *data;
    size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(png_structp png, png_bytep to, size_t size)
{
    struct source *source = png_get_io_ptr(png);

    if (size > source->left)
        png_error(png, "the input has ended");
    memcpy(to, source->data, size);
    source->data += size;
    source->left -= size;
}

static void be_quiet(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void fail(png_structp png, png_const_charp text)
{
    (void)text;
    longjmp(png_jmpbuf(png), 1);
}

static void read_image(png_structp png, png_infop info, png_bytep *row)
{
    int passes;

    png_read_info(png, info);
    if ((uint64_t)png_get_image_width(png, info) *
            png_get_image_height(png, info) >
        PIXELS_MAX)
        return;
    png_set_gray_to_rgb(png);
    png_set_expand(png);
    png_set_packing(png);
    png_set_scale_16(png);
    png_set_tRNS_to_alpha(png);
    passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    *row = malloc(png_get_rowbytes(png, info));
    for (int pass = 0; *row != NULL && pass < passes; pass++) {
        for (png_uint_32 y = 0; y < png_get_image_height(png, info); y++)
            png_read_row(png, *row, NULL);
    }
    png_read_end(png, info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source source = {.data = data, .left = size};
    png_bytep volatile row = NULL;
    png_bytep made = NULL;
    png_infop info;
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, fail, be_quiet);

    if (png == NULL)
        return 0;
    info = png_create_info_struct(png);
    png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_read_fn(png, &source, take);
    if (info != NULL && setjmp(png_jmpbuf(png)) == 0)
        read_image(png, info, &made);
    row = made;
    free(row);
    png_destroy_read_struct(&png, &info, NULL);
    return 0;
}
