/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#define PIXELS_MAX 100000u

struct source {
    const uint8_t *data;
    uint64_t size;
    uint64_t at;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static tmsize_t take(thandle_t handle, void *to, tmsize_t size)
{
    struct source *s = handle;
    uint64_t left = s->at < s->size ? s->size - s->at : 0;

    if ((uint64_t)size > left)
        size = (tmsize_t)left;
    memcpy(to, s->data + s->at, (size_t)size);
    s->at += (uint64_t)size;
    return size;
}

static tmsize_t refuse(thandle_t handle, void *from, tmsize_t size)
{
    (void)handle;
    (void)from;
    (void)size;
    return 0;
}

static toff_t seek(thandle_t handle, toff_t offset, int whence)
{
    struct source *s = handle;

    s->at = whence == SEEK_SET   ? offset
            : whence == SEEK_CUR ? s->at + offset
                                 : s->size + offset;
    return s->at;
}

static int shut(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t size_of(thandle_t handle)
{
    return ((struct source *)handle)->size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)TIFFSetErrorHandler(NULL);
    (void)TIFFSetWarningHandler(NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source source = {.data = data, .size = size};
    TIFF *tiff = TIFFClientOpen("input.tiff", "rm", &source, take, refuse, seek,
        shut, size_of, NULL, NULL);
    uint32_t width = 0;
    uint32_t height = 0;

    if (tiff == NULL)
        return 0;
    (void)TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
    (void)TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
    if ((uint64_t)width * height <= PIXELS_MAX && width > 0 && height > 0) {
        uint32_t *raster = malloc((size_t)width * height * sizeof(raster[0]));

        if (raster != NULL)
            (void)TIFFReadRGBAImage(tiff, width, height, raster, 0);
        free(raster);
    }
    TIFFClose(tiff);
    return 0;
}
