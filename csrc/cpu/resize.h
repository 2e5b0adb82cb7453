// resize: antialiased linear, rows before columns, in whole numbers, as rethink_fast/data/resize.py defines it.

#pragma once

#include "random_pixels.h"

namespace rethink_fast {
namespace RF_ISA {

constexpr int kWeightBits = 14;  // of a weight: an int16 holds one whole
constexpr int kRowBits = 6;      // behind the point, of the values between the two passes: an int16 holds 255
constexpr int64_t kGroup = 4;    // pixels that the horizontal pass makes at once

// For every place of one axis the source places that it is made of: `first`, and 2 * pairs weights, zeros at the end.
struct Taps {
  int64_t pairs;
  int32_t* first;
  int16_t* weights;
};

// The weights of one axis, in units of 1 / (2 * to): a triangle around the place's centre, as wide as the coarser grid.
static Taps make_taps(int64_t from, int64_t to, int64_t pairs, int32_t* first, int16_t* weights) {
  const int64_t support = 2 * (from > to ? from : to);
  for (int64_t o = 0; o < to; ++o) {
    const int64_t centre = (2 * o + 1) * from, below = centre - support - to;
    const int64_t begin = below < 0 ? 0 : below / (2 * to) + 1;
    const auto height = [=](int64_t k) {
      const int64_t away = (2 * k + 1) * to - centre;
      return support - (away < 0 ? -away : away);
    };
    int64_t sum = 0, end = begin;
    for (; end < from && height(end) > 0; ++end) sum += height(end);
    int16_t* out = weights + 2 * pairs * o;
    int64_t left = int64_t{1} << kWeightBits, largest = 0;
    for (int64_t k = 0; k < 2 * pairs; ++k) {
      const int64_t weight = begin + k < end ? ((height(begin + k) << kWeightBits) + sum / 2) / sum : 0;
      out[k] = static_cast<int16_t>(weight);
      left -= out[k];
      if (out[k] > out[largest]) largest = k;
    }
    out[largest] = static_cast<int16_t>(out[largest] + left);  // they sum to one: an even image stays as it is
    first[o] = static_cast<int32_t>(begin);
  }
  return Taps{pairs, first, weights};
}

#if defined(__AVX2__)
// Sixteen values at a time, at least sixteen. pairs: of rows; 0 for as many as `all`.
template <int pairs, typename Row>
RF_INLINE void sum_rows_wide(Row row, const int16_t* weights, int64_t all, int64_t columns, int16_t* out) {
  constexpr int shift = kWeightBits - kRowBits;
  const auto sixteen = [&](int64_t at) {
    __m256i low = _mm256_set1_epi32(1 << (shift - 1)), high = low;
    for (int64_t p = 0; p < (pairs ? pairs : all); ++p) {
      const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(2 * p) + at));
      const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(2 * p + 1) + at));
      const __m256i weight = _mm256_set1_epi32(load<int32_t>(weights + 2 * p));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)), weight));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)), weight));
    }
    const __m256i both = _mm256_packs_epi32(_mm256_srai_epi32(low, shift), _mm256_srai_epi32(high, shift));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + at), _mm256_permute4x64_epi64(both, 0xD8));
  };
  for (int64_t at = 0; at + 16 <= columns; at += 16) sixteen(at);
  sixteen(columns - 16);
}
#endif

// One row between the passes: of the source rows, `columns` values each, the sum by the weights of place o.
static void sum_rows(const uint8_t* image, int64_t height, int64_t columns, const Taps& taps, int64_t o, int16_t* out) {
  const int16_t* weights = taps.weights + 2 * taps.pairs * o;
  const auto row = [=, first = taps.first[o]](int64_t k) {
    return image + (first + k < height ? first + k : height - 1) * columns;
  };
  int64_t pairs = taps.pairs;
  while (load<int32_t>(weights + 2 * (pairs - 1)) == 0) --pairs;  // a place has two taps where another has three
#if defined(__AVX2__)
  if (columns >= 16) {
    if (pairs == 1) return sum_rows_wide<1>(row, weights, pairs, columns, out);
    if (pairs == 2) return sum_rows_wide<2>(row, weights, pairs, columns, out);
    return sum_rows_wide<0>(row, weights, pairs, columns, out);
  }
#endif
  constexpr int shift = kWeightBits - kRowBits;
  for (int64_t at = 0; at < columns; ++at) {
    int32_t sum = 1 << (shift - 1);
    for (int64_t k = 0; k < 2 * pairs; ++k) sum += weights[k] * row(k)[at];
    out[at] = static_cast<int16_t>(sum >> shift);
  }
}

#if defined(__AVX2__)
// Of a group of four pixels the sums, as four bytes each: 0 and 1 in the lower half, 2 and 3 in the upper. pairs: 0 for
// as many as `taps` has.
template <int pairs>
RF_INLINE __m256i sum_group(const int16_t* row, const int32_t* first, const int16_t* expanded, int64_t all) {
  const __m256i by_channel =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1));
  constexpr int shift = kWeightBits + kRowBits;
  __m256i even = _mm256_set1_epi32(1 << (shift - 1)), odd = even;
  const auto two = [&](int64_t a, int64_t b, int64_t p) {
    const auto* from_a = reinterpret_cast<const __m128i*>(row + 3 * (first[a] + 2 * p));
    const auto* from_b = reinterpret_cast<const __m128i*>(row + 3 * (first[b] + 2 * p));
    const __m256i joined =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(from_a)), _mm_loadu_si128(from_b), 1);
    return _mm256_shuffle_epi8(joined, by_channel);
  };
  for (int64_t p = 0; p < (pairs ? pairs : all); ++p) {
    const auto* weights = reinterpret_cast<const __m256i*>(expanded) + 2 * p;
    even = _mm256_add_epi32(even, _mm256_madd_epi16(two(0, 2, p), _mm256_load_si256(weights)));
    odd = _mm256_add_epi32(odd, _mm256_madd_epi16(two(1, 3, p), _mm256_load_si256(weights + 1)));
  }
  const __m256i words = _mm256_packus_epi32(_mm256_srai_epi32(even, shift), _mm256_srai_epi32(odd, shift));
  return _mm256_packus_epi16(words, words);
}

template <int pairs>
static void sum_columns(const int16_t* row, const Taps& taps, const int16_t* expanded, int64_t out_width,
                        uint8_t* out) {
  const __m256i close =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  const int64_t each = 32 * taps.pairs;
  for (int64_t o = 0; o < out_width; o += kGroup) {
    const __m256i bytes =
        _mm256_shuffle_epi8(sum_group<pairs>(row, taps.first + o, expanded + o / kGroup * each, taps.pairs), close);
    alignas(16) uint8_t last[16];
    const bool whole = o + kGroup < out_width;  // two bytes go over the end, where the next group writes
    uint8_t* to = whole ? out + 3 * o : last;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 6), _mm256_extracti128_si256(bytes, 1));
    if (!whole) __builtin_memcpy(out + 3 * o, last, static_cast<size_t>(3 * (out_width - o)));
  }
}

// Each weight as often as a group takes it: pixels 0 and 2, then 1 and 3, a pair of weights for each of four channels.
static void expand(const Taps& taps, int64_t out_width, int16_t* expanded) {
  constexpr int64_t order[] = {0, 2, 1, 3};
  for (int64_t o = 0; o < out_width; o += kGroup) {
    for (int64_t p = 0; p < taps.pairs; ++p) {
      for (const int64_t pixel : order) {
        const auto pair = load<int32_t>(taps.weights + 2 * (taps.pairs * (o + pixel) + p));
        for (int channel = 0; channel < 4; ++channel, expanded += 2) store(expanded, pair);
      }
    }
  }
}
#endif

// image: [height, width, 3]; out: [out_height, out_width, 3]; scratch: resize_scratch bytes.
static void resize(const uint8_t* image, int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                   uint8_t* out, uint8_t* scratch) {
  const int64_t pairs_down = resize_pairs(height, out_height), pairs_across = resize_pairs(width, out_width);
  const int64_t padded = (out_width + kGroup - 1) / kGroup * kGroup, columns = 3 * width;
  auto* first = cut<int32_t>(&scratch, out_height);
  auto* weights = cut<int16_t>(&scratch, 2 * pairs_down * out_height);
  const Taps down = make_taps(height, out_height, pairs_down, first, weights);
  first = cut<int32_t>(&scratch, padded);
  weights = cut<int16_t>(&scratch, 2 * pairs_across * padded);
  const Taps across = make_taps(width, out_width, pairs_across, first, weights);
  for (int64_t o = out_width; o < padded; ++o) {
    first[o] = 0;
    __builtin_memset(weights + 2 * pairs_across * o, 0, static_cast<size_t>(4 * pairs_across));
  }
  // A place's last pairs may lie past the end of the row, with weights of zero.
  const int64_t beyond = 6 * pairs_across + 8;
  auto* row = cut<int16_t>(&scratch, columns + beyond);
  __builtin_memset(row + columns, 0, static_cast<size_t>(2 * beyond));
#if defined(__AVX2__)
  auto* expanded = cut<int16_t>(&scratch, 8 * pairs_across * padded);
  expand(across, out_width, expanded);
#endif
  for (int64_t o = 0; o < out_height; ++o, out += 3 * out_width) {
    sum_rows(image, height, columns, down, o, row);
#if defined(__AVX2__)
    if (pairs_across == 1) {
      sum_columns<1>(row, across, expanded, out_width, out);
    } else if (pairs_across == 2) {
      sum_columns<2>(row, across, expanded, out_width, out);
    } else {
      sum_columns<0>(row, across, expanded, out_width, out);
    }
#else
    constexpr int shift = kWeightBits + kRowBits;
    for (int64_t at = 0; at < out_width; ++at) {
      const int16_t* from = row + 3 * static_cast<int64_t>(across.first[at]);
      const int16_t* by = across.weights + 2 * pairs_across * at;
      int32_t sums[3] = {1 << (shift - 1), 1 << (shift - 1), 1 << (shift - 1)};
      for (int64_t k = 0; k < 2 * pairs_across; ++k) {
        for (int channel = 0; channel < 3; ++channel) sums[channel] += by[k] * from[3 * k + channel];
      }
      for (int channel = 0; channel < 3; ++channel)
        out[3 * at + channel] = static_cast<uint8_t>(sums[channel] >> shift);
    }
#endif
  }
}

}  // namespace RF_ISA
}  // namespace rethink_fast
