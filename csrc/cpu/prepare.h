// The fused preparation of one image: gather, fixed crop, corruption, random crop, flip, rotation, whitening or unit
// range, cast. Pixels are made run by run, a run being consecutive places of the corrupted image, and leave for the
// output while they are in the first cache; what needs the whole image first (whitening, rotation) keeps it in scratch.

#pragma once

#include "gaussian.h"
#include "normalise.h"
#include "random_pixels.h"

namespace rethink_fast {
namespace RF_ISA {

// Makes runs of the corrupted image's pixels, as bytes or (gaussian) as floats.
struct Source {
  const Plan& plan;
  uint64_t index;
  const uint8_t* image;  // where the window begins: in the set, or copied to scratch (then dense)
  int64_t row_stride;    // bytes
  Bijection bijection;
  uint32_t* places;

  // Pixels first ... first + count of the window, backwards if so asked; count <= kChunk. Returns where they are:
  // in `buffer`, or in the set itself when nothing moves them.
  const uint8_t* run(int64_t first, int64_t count, bool backwards, uint8_t* buffer) const {
    const int64_t channels = plan.channels;
    if (plan.corruption == Corruption::kNone) {
      const uint8_t* from = image + first / plan.window_width * row_stride + first % plan.window_width * channels;
      if (!backwards) return from;
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t c = 0; c < channels; ++c) buffer[i * channels + c] = from[(count - 1 - i) * channels + c];
      }
      return buffer;
    }
    const uint32_t* from = places;
    if (plan.corruption == Corruption::kShuffledPixels) {
      from = plan.moves.places + first;
    } else {
      permute_chunk(bijection, static_cast<uint32_t>(first), static_cast<int>(count), places);
    }
    if (backwards) {
      gather_pixels<-1>(image, plan.moves, from + count - 1, count, buffer);
    } else {
      gather_pixels<1>(image, plan.moves, from, count, buffer);
    }
    return buffer;
  }

  const float* run(int64_t first, int64_t count, bool backwards, float* buffer) const {
    const int64_t channels = plan.channels;
    noise_range(plan.noise, index, first * channels, count * channels, buffer);
    for (int64_t left = 0, right = count - 1; backwards && left < right; ++left, --right) {
      for (int64_t c = 0; c < channels; ++c) {
        const float kept = buffer[left * channels + c];
        buffer[left * channels + c] = buffer[right * channels + c];
        buffer[right * channels + c] = kept;
      }
    }
    return buffer;
  }
};

// The random choices of one sample.
struct Choice {
  int64_t top, left;
  bool flipped;
  float cos, sin;
};

static Choice choose(const Plan& plan, uint64_t index) {
  const int64_t rows = plan.window_height - plan.out_height, columns = plan.window_width - plan.out_width;
  Choice out{rows / 2, columns / 2, false, 1.0f, 0.0f};
  if (!plan.crop && !plan.flip && !plan.rotation) return out;
  const Words words = draw(plan.augment, index, plan.epoch);
  if (plan.crop) {
    out.top = mulhi(words.w0, static_cast<uint32_t>(rows + 1));
    out.left = mulhi(words.w1, static_cast<uint32_t>(columns + 1));
  }
  out.flipped = plan.flip && words.w2 >= 0x80000000u;
  if (plan.rotation) {
    const double turn = (static_cast<double>(words.w3) + 0.5) / 2147483648.0 - 1.0;
    const float angle = static_cast<float>(turn * (25.0 * 3.14159265358979323846 / 180.0));
    out.cos = __builtin_cosf(angle);
    out.sin = __builtin_sinf(angle);
  }
  return out;
}

// A border of zeros around the image that rotation reads: one pixel before, two after, so that any place within a
// pixel of the image has its four neighbours.
constexpr int64_t kBorder = 3;

// Row y of the image turned about its centre, bilinearly; source: [height + 3, width + 3, channels], zero border.
template <typename T>
static void rotate_row(const T* source, const Plan& plan, const Choice& choice, int64_t y, float* out) {
  const int64_t height = plan.out_height, width = plan.out_width, channels = plan.channels;
  const int64_t stride = (width + kBorder) * channels;
  const float middle_x = 0.5f * static_cast<float>(width - 1), middle_y = 0.5f * static_cast<float>(height - 1);
  const float last_x = static_cast<float>(width), last_y = static_cast<float>(height);
  const float from_y = static_cast<float>(y) - middle_y;
  for (int64_t x = 0; x < width; ++x) {
    const float from_x = static_cast<float>(x) - middle_x;
    float at_x = choice.cos * from_x + choice.sin * from_y + middle_x;
    float at_y = choice.cos * from_y - choice.sin * from_x + middle_y;
    at_x = at_x < -1.0f ? -1.0f : (at_x > last_x ? last_x : at_x);
    at_y = at_y < -1.0f ? -1.0f : (at_y > last_y ? last_y : at_y);
    const int32_t left = static_cast<int32_t>(at_x + 1.0f), top = static_cast<int32_t>(at_y + 1.0f);
    const float right_part = at_x - static_cast<float>(left - 1), bottom_part = at_y - static_cast<float>(top - 1);
    const float left_part = 1.0f - right_part, top_part = 1.0f - bottom_part;
    const T* corner = source + top * stride + left * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const float upper =
          static_cast<float>(corner[c]) * left_part + static_cast<float>(corner[c + channels]) * right_part;
      const float lower = static_cast<float>(corner[c + stride]) * left_part +
                          static_cast<float>(corner[c + stride + channels]) * right_part;
      out[x * channels + c] = upper * top_part + lower * bottom_part;
    }
  }
}

template <typename Element, typename Out>
static void prepare_as(const Plan& plan, const Source& source, void* to, uint8_t* scratch) {
  Out* out = static_cast<Out*>(to);
  const Choice choice = choose(plan, source.index);
  const int64_t channels = plan.channels, width = plan.out_width, height = plan.out_height;
  const int64_t elements = height * width * channels;

  // Where no crop, flip or rotation breaks the rows, runs cross them.
  const bool dense = plan.corruption != Corruption::kNone || source.row_stride == plan.window_width * channels;
  const bool whole = width == plan.window_width && !choice.flipped && !plan.rotation && dense;
  const int64_t lines = whole ? 1 : height, line = whole ? height * width : width;
  const auto each_run = [&](const auto& take) {
    for (int64_t y = 0; y < lines; ++y) {
      const int64_t begin = (choice.top + y) * plan.window_width + choice.left;
      for (int64_t x = 0; x < line; x += kChunk) {
        const int64_t count = line - x < kChunk ? line - x : kChunk;
        const int64_t first = choice.flipped ? begin + line - x - count : begin + x;
        take(y, x, first, count);
      }
    }
  };

  if (plan.rotation) {
    const int64_t stride = (width + kBorder) * channels;
    Element* bordered = cut<Element>(&scratch, (height + kBorder) * stride);
    float* turned = cut<float>(&scratch, plan.whiten ? elements : width * channels);
    __builtin_memset(bordered, 0, static_cast<size_t>((height + kBorder) * stride) * sizeof(Element));
    each_run([&](int64_t y, int64_t x, int64_t first, int64_t count) {
      Element* to = bordered + (y + 1) * stride + (x + 1) * channels;
      const Element* made = source.run(first, count, choice.flipped, to);
      if (made != to) __builtin_memcpy(to, made, static_cast<size_t>(count * channels) * sizeof(Element));
    });
    for (int64_t y = 0; y < height; ++y) {
      float* row = turned + (plan.whiten ? y * width * channels : 0);
      rotate_row(bordered, plan, choice, y, row);
      if (!plan.whiten)
        normalise<UnitRange>(row, Output<Out>{out + y * width * channels, plan.streamed}, width * channels, 0.0f, 0.0f);
    }
    if (plan.whiten) {
      const Statistics s = statistics(turned, elements);
      normalise<Whiten>(turned, Output<Out>{out, plan.streamed}, elements, s.mean, s.scale);
    }
  } else if (plan.whiten) {
    Element* kept = cut<Element>(&scratch, elements);
    each_run([&](int64_t y, int64_t x, int64_t first, int64_t count) {
      Element* to = kept + (y * line + x) * channels;
      const Element* made = source.run(first, count, choice.flipped, to);
      if (made != to) __builtin_memcpy(to, made, static_cast<size_t>(count * channels) * sizeof(Element));
    });
    const Statistics s = statistics(kept, elements);
    normalise<Whiten>(kept, Output<Out>{out, plan.streamed}, elements, s.mean, s.scale);
  } else {
    Element* buffer = cut<Element>(&scratch, kChunk * channels);
    each_run([&](int64_t y, int64_t x, int64_t first, int64_t count) {
      const Element* made = source.run(first, count, choice.flipped, buffer);
      const Output<Out> part{out + (y * line + x) * channels, plan.streamed};
      normalise<UnitRange>(made, part, count * channels, 0.0f, 0.0f);
    });
  }
}

static void prepare(const Plan& plan, int64_t row, uint64_t index, void* out, uint8_t* scratch) {
  const int64_t stored_stride = plan.width * plan.channels, stride = plan.window_width * plan.channels;
  const uint8_t* window = plan.images + row * plan.height * stored_stride + plan.window_top * stored_stride +
                          plan.window_left * plan.channels;
  Source source{plan, index, window, stored_stride, Bijection{}, cut<uint32_t>(&scratch, kChunk)};
  if (plan.corruption == Corruption::kShuffledPixels || plan.corruption == Corruption::kRandomPixels) {
    // Copied so that it comes from memory in order; the pixels are then picked out of the cache.
    uint8_t* copy = cut<uint8_t>(&scratch, plan.window_height * stride);
    if (stride == stored_stride) {
      __builtin_memcpy(copy, window, static_cast<size_t>(plan.window_height * stride));
    } else {
      for (int64_t y = 0; y < plan.window_height; ++y) {
        __builtin_memcpy(copy + y * stride, window + y * stored_stride, static_cast<size_t>(stride));
      }
    }
    source.image = copy;
    source.row_stride = stride;
    if (plan.corruption == Corruption::kRandomPixels)
      source.bijection = make_bijection(plan.moves.key, index, plan.moves.n);
  }
  if (plan.corruption == Corruption::kGaussian) {
    plan.bfloat16 ? prepare_as<float, uint16_t>(plan, source, out, scratch)
                  : prepare_as<float, float>(plan, source, out, scratch);
  } else {
    plan.bfloat16 ? prepare_as<uint8_t, uint16_t>(plan, source, out, scratch)
                  : prepare_as<uint8_t, float>(plan, source, out, scratch);
  }
  if (plan.streamed) order_streams();
}

}  // namespace RF_ISA
}  // namespace rethink_fast
