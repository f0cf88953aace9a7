/* Views on a CPU, one after another: flip, color jitter, gray, blur, solarize and normalize as color.py defines them.
 *
 * An image is worked on row by row, so that what one operation leaves is in the core's nearest cache when the next one
 * begins, and only what was drawn for the image is computed. Contrast reads the mean luma of what came before it, and
 * blur the rows around: they alone end a pass over the image.
 *
 * Rows hold red, green and blue one after another, `side` numbers each, in 0..1.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE, STEPS };                          /* columns of factors, see color.py */
enum { FLIP, ORDER, FACTORS = ORDER + STEPS, GRAY = FACTORS + STEPS, THRESHOLD, TAPS }; /* columns of what was drawn */

#define INLINE static inline __attribute__((always_inline)) /* loops over a row are compiled for the row they get */

#if defined(__AVX512F__) /* of the processor's own size: a longer vector is taken apart in memory, ten times slower */
enum { VECTOR = 64 };
#elif defined(__AVX__)
enum { VECTOR = 32 };
#else
enum { VECTOR = 16 };
#endif
typedef float Block __attribute__((vector_size(VECTOR), aligned(4))); /* neighbors that are filtered at once */
enum { BLOCK = sizeof(Block) / sizeof(float), STRIP = 32, BLOCKS = STRIP / BLOCK };

static const float LUMA[3] = {0.2989f, 0.587f, 0.114f}; /* torchvision rgb_to_grayscale */
static const float LEAST = 1e-9f; /* weight of a tap that is left out: float32 tells 6e-8 from 1 */

typedef struct {
  const void *pixels; /* uint8 [side, side, 3], or float [3, side, side] where `bytes` is 0; levels 0..255 */
  const float *drawn, *scale;
  float *out; /* [3, side, side] */
  int bytes, side, radius;
} View;

typedef struct {
  float *row, *other, *sums; /* of three channels, of three, of one */
  float *planes;             /* [3, side + 2 radius, side]: rows around an image mirror it */
  float *wide;               /* side + 2 radius */
} Work;

INLINE float clamp(float number, float low, float high) {
  number = number < low ? low : number;
  return number > high ? high : number;
}

INLINE float luma(const float *row, int side, int x) {
  return row[x] * LUMA[0] + row[side + x] * LUMA[1] + row[2 * side + x] * LUMA[2];
}

INLINE void mirror(const float *restrict from, float *restrict to, int side) {
  for (int x = 0; x < side; x++) to[x] = from[side - 1 - x];
}

INLINE void read_bytes(const uint8_t *restrict pixels, float *restrict row, int side) {
  const float level = 1 / 255.f;
  float *restrict red = row, *restrict green = row + side, *restrict blue = row + 2 * side;
  for (int x = 0; x < side; x++) {
    red[x] = pixels[3 * x] * level;
    green[x] = pixels[3 * x + 1] * level;
    blue[x] = pixels[3 * x + 2] * level;
  }
}

INLINE void read_floats(const float *restrict pixels, float *restrict row, int side) {
  for (int channel = 0; channel < 3; channel++)
    for (int x = 0; x < side; x++) row[channel * side + x] = pixels[channel * side * side + x] * (1 / 255.f);
}

INLINE void read_row(const View *view, int y, const Work *work) {
  int side = view->side, flip = view->drawn[FLIP] != 0;
  float *to = flip ? work->other : work->row;
  if (view->bytes)
    read_bytes((const uint8_t *)view->pixels + 3 * side * y, to, side);
  else
    read_floats((const float *)view->pixels + side * y, to, side);
  for (int channel = 0; flip && channel < 3; channel++) mirror(to + channel * side, work->row + channel * side, side);
}

INLINE void scale_row(float *restrict row, int side, float factor, float even) {
  for (int x = 0; x < 3 * side; x++) row[x] = clamp(factor * row[x] + even, 0, 1);
}

INLINE void saturate(float *restrict row, int side, float factor) {
  float *restrict red = row, *restrict green = row + side, *restrict blue = row + 2 * side;
  for (int x = 0; x < side; x++) {
    float dark = (1 - factor) * (red[x] * LUMA[0] + green[x] * LUMA[1] + blue[x] * LUMA[2]);
    red[x] = clamp(factor * red[x] + dark, 0, 1);
    green[x] = clamp(factor * green[x] + dark, 0, 1);
    blue[x] = clamp(factor * blue[x] + dark, 0, 1);
  }
}

INLINE float turned(float hue, float start, float chroma, float low, float value) {
  float place = fabsf(fabsf(hue + start * chroma) - 3 * chroma);
  return clamp(value + chroma - place, low, value);
}

/* color.py, shift_hue */
INLINE void turn_hue(float *restrict row, int side, float turns) {
  float *restrict red = row, *restrict green = row + side, *restrict blue = row + 2 * side;
  float starts[3];
  for (int channel = 0; channel < 3; channel++) {
    float start = 5 - 2 * channel + 6 * turns + 3;
    starts[channel] = start - 6 * floorf(start / 6) - 3;
  }
  for (int x = 0; x < side; x++) {
    float r = red[x], g = green[x], b = blue[x];
    float value = r > g ? r : g, low = r < g ? r : g;
    value = value > b ? value : b, low = low < b ? low : b;
    float chroma = value - low;
    float hue = value == g ? b - r : r - g + 2 * chroma;
    hue = value == r ? g - b - 2 * chroma : hue;
    red[x] = turned(hue, starts[0], chroma, low, value);
    green[x] = turned(hue, starts[1], chroma, low, value);
    blue[x] = turned(hue, starts[2], chroma, low, value);
  }
}

/* Take the steps from first to last - 1 of the jitter; `mean` is the mean luma that contrast reads. */
INLINE void jitter(float *row, int side, const float *drawn, int first, int last, float mean) {
  for (int step = first; step < last; step++) {
    int kind = (int)drawn[ORDER + step];
    float factor = drawn[FACTORS + kind];
    if (factor == (kind == HUE ? 0 : 1)) continue;
    if (kind == HUE)
      turn_hue(row, side, factor);
    else if (kind == SATURATION)
      saturate(row, side, factor);
    else
      scale_row(row, side, factor, kind == CONTRAST ? (1 - factor) * mean : 0);
  }
}

INLINE void gray(float *restrict row, int side) {
  for (int x = 0; x < side; x++) row[x] = row[side + x] = row[2 * side + x] = luma(row, side, x);
}

/* Solarize and normalize one channel of a row. */
INLINE void finish(const View *view, int channel, int y, const float *restrict line) {
  int side = view->side;
  float *restrict out = view->out + (size_t)(channel * side + y) * side;
  float threshold = view->drawn[THRESHOLD], mean = view->scale[channel], share = 1 / view->scale[3 + channel];
  if (threshold <= 1)
    for (int x = 0; x < side; x++) out[x] = ((line[x] < threshold ? line[x] : 1 - line[x]) - mean) * share;
  else
    for (int x = 0; x < side; x++) out[x] = (line[x] - mean) * share;
}

INLINE float *plane_row(const View *view, const Work *work, int channel, int y) {
  return work->planes + (size_t)((view->side + 2 * view->radius) * channel + view->radius + y) * view->side;
}

/* Move a row to the planes, or from there. */
INLINE void move_row(const View *view, const Work *work, int y, int back) {
  size_t bytes = sizeof(float) * view->side;
  for (int channel = 0; channel < 3; channel++) {
    float *line = work->row + channel * view->side, *kept = plane_row(view, work, channel, y);
    memcpy(back ? line : kept, back ? kept : line, bytes);
  }
}

/* Return the mean luma of the image after the steps before contrast; they are in the planes then. */
static double before_contrast(const View *view, const Work *work, int contrast) {
  int side = view->side;
  double mean = 0;
  memset(work->sums, 0, sizeof(float) * side);
  for (int y = 0; y < side; y++) {
    read_row(view, y, work);
    jitter(work->row, side, view->drawn, 0, contrast, 0);
    for (int x = 0; x < side; x++) work->sums[x] += luma(work->row, side, x);
    move_row(view, work, y, 0);
  }
  for (int x = 0; x < side; x++) mean += work->sums[x];
  return mean / side / side;
}

/* Filter a line of `side` numbers around `middle`, `apart` numbers from one another; writes whole strips. */
INLINE void filter(const float *middle, float *out, int side, int apart, const float *taps, int radius) {
  for (int x = 0; x < side; x += STRIP) {
    Block sums[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) sums[i] = taps[0] * *(const Block *)(middle + x + i * BLOCK);
    for (int tap = 1; tap <= radius; tap++) {
      const float *before = middle + x - tap * apart, *after = middle + x + tap * apart;
      for (int i = 0; i < BLOCKS; i++)
        sums[i] += taps[tap] * (*(const Block *)(before + i * BLOCK) + *(const Block *)(after + i * BLOCK));
    }
    for (int i = 0; i < BLOCKS; i++) *(Block *)(out + x + i * BLOCK) = sums[i];
  }
}

/* Blur the planes, down and then across, and finish them. */
static void blur(const View *view, const Work *work, const float *taps) {
  int side = view->side, radius = view->radius;
  float *middle = work->wide + radius;
  for (int channel = 0; channel < 3; channel++) {
    for (int tap = 1; tap <= radius; tap++) {
      memcpy(plane_row(view, work, channel, -tap), plane_row(view, work, channel, tap), sizeof(float) * side);
      memcpy(plane_row(view, work, channel, side - 1 + tap), plane_row(view, work, channel, side - 1 - tap),
             sizeof(float) * side);
    }
    for (int y = 0; y < side; y++) {
      filter(plane_row(view, work, channel, y), middle, side, side, taps, radius);
      for (int tap = 1; tap <= radius; tap++)
        middle[-tap] = middle[tap], middle[side - 1 + tap] = middle[side - 1 - tap];
      filter(middle, work->row, side, 1, taps, radius);
      finish(view, channel, y, work->row);
    }
  }
}

static void color_view(View *view, const Work *work) {
  int side = view->side, contrast = STEPS;
  const float *drawn = view->drawn, *taps = drawn + TAPS;
  float mean = 0;
  while (view->radius && taps[view->radius] < LEAST) view->radius--;
  for (int step = 0; step < STEPS; step++)
    if (drawn[ORDER + step] == CONTRAST && drawn[FACTORS + CONTRAST] != 1) contrast = step;
  int kept = contrast < STEPS;
  if (kept) mean = (float)before_contrast(view, work, contrast);
  for (int y = 0; y < side; y++) {
    if (kept)
      move_row(view, work, y, 1);
    else
      read_row(view, y, work);
    jitter(work->row, side, drawn, kept ? contrast : 0, STEPS, mean);
    if (drawn[GRAY] != 0) gray(work->row, side);
    if (view->radius)
      move_row(view, work, y, 0);
    else
      for (int channel = 0; channel < 3; channel++) finish(view, channel, y, work->row + channel * side);
  }
  if (view->radius) blur(view, work, taps);
}

/* Write `count` views to `out`, float [count, 3, side, side], of images of levels 0..255: uint8 [count, side, side, 3],
 * or float [count, 3, side, side] where `bytes` is 0. `drawn` is [count, TAPS + radius + 1], its last columns one half
 * of the blur's taps from the middle on; `scale` is three means and three deviations. Returns 1 for want of memory. */
int color_views(const void *pixels, int bytes, float *out, const float *drawn, int64_t count, int side, int radius,
                const float *scale) {
  size_t values = 3 * (size_t)side * side, line = side + STRIP; /* filters write whole strips, and read them */
  size_t planes = 3 * (size_t)(side + 2 * radius) * side + STRIP;
  float *memory = malloc(sizeof(float) * (planes + 10 * line + 2 * radius));
  if (!memory) return 1;
  Work work = {.row = memory, .other = memory + 3 * line, .sums = memory + 6 * line, .planes = memory + 7 * line};
  work.wide = work.planes + planes;
  for (int64_t at = 0; at < count; at++) {
    const char *own = (const char *)pixels + at * values * (bytes ? 1 : sizeof(float));
    View view = {own, drawn + at * (TAPS + radius + 1), scale, out + at * values, bytes, side, radius};
    color_view(&view, &work);
  }
  free(memory);
  return 0;
}
