// Every kernel of every instruction set that this machine has, over odd shapes, against the plain scalar functions of
// philox.h and bijection.h. Buffers are exactly as large as promised and outputs start poisoned, so that under the
// address and undefined-behaviour sanitizers a byte read or written too far, or left unwritten, ends the run. The tests
// build and run this; it is no part of the library.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

namespace rethink_fast {
namespace {

constexpr uint64_t kSeed = 0x7FFFFFFFFFFFFFFFu;
constexpr uint64_t kIndices[] = {0, 7, (uint64_t{1} << 32) + 3, (uint64_t{1} << 62) + 5, kSeed};

void expect(bool fine, const Kernels& kernels, const char* what, int64_t a, int64_t b, int64_t c) {
  if (fine) return;
  std::printf("%s: %s differs from the scalar functions (%lld, %lld, %lld)\n", kernels.name, what,
              static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c));
  std::exit(1);
}

template <typename T>
std::vector<T> poisoned(int64_t count) {
  std::vector<T> out(static_cast<size_t>(count));
  if (count > 0) std::memset(out.data(), 0xA5, out.size() * sizeof(T));
  return out;
}

std::vector<uint8_t> pixels(int64_t count) {
  std::vector<uint8_t> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(draw(Key{1, 2}, i, 0).w0);
  return out;
}

// Memory aligned to 64 bytes, as the kernels are promised.
struct Scratch {
  explicit Scratch(size_t bytes) : data(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {}
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  uint8_t* data;
};

void check_labels(const Kernels& kernels) {
  const Key key = make_key(kSeed, Stream::kLabels);
  for (const int64_t count : {0, 1, 3, 8, 63, 100}) {
    std::vector<int64_t> labels(static_cast<size_t>(count)), index(labels.size());
    for (size_t i = 0; i < labels.size(); ++i) {
      labels[i] = -1 - static_cast<int64_t>(i);
      index[i] = static_cast<int64_t>(kIndices[i % 5] - i / 5);
    }
    for (const uint64_t threshold : {uint64_t{0}, uint64_t{1} << 31, uint64_t{1} << 32}) {
      for (const uint32_t classes : {1u, 1000u, 1u << 31}) {
        auto out = poisoned<int64_t>(count);
        kernels.corrupt_labels(labels.data(), index.data(), out.data(), count, classes, threshold, key);
        for (size_t i = 0; i < labels.size(); ++i) {
          const Words words = draw(key, static_cast<uint64_t>(index[i]), 0);
          const int64_t want = words.w0 < threshold ? static_cast<int64_t>(mulhi(words.w1, classes)) : labels[i];
          expect(out[i] == want, kernels, "corrupt_labels", count, static_cast<int64_t>(i), classes);
        }
      }
    }
  }
}

void check_permutations(const Kernels& kernels) {
  for (const uint32_t n : {1u, 2u, 3u, 7u, 63u, 64u, 65u, 2047u, 2049u, 50176u, 1u << 31}) {
    for (const uint64_t index : kIndices) {
      const Bijection bijection = make_bijection(make_key(kSeed, Stream::kRandomPixels), index, n);
      const uint32_t count = n < 5000 ? n : 5000, first = n - count;
      auto out = poisoned<uint32_t>(count);
      kernels.permute_range(bijection, first, count, out.data());
      for (uint32_t i = 0; i < count; ++i) {
        expect(out[i] == permute(bijection, first + i), kernels, "permute_range", n, i, 0);
      }
    }
  }
}

void check_moves(const Kernels& kernels) {
  for (const int64_t bytes : {1, 2, 3, 4, 12}) {
    for (const uint32_t n : {1u, 7u, 22u, 63u, 3000u}) {
      const auto image = pixels(n * bytes);
      const Key key = make_key(kSeed, Stream::kRandomPixels);
      const Bijection bijection = make_bijection(key, kIndices[3], n);
      std::vector<uint32_t> places(n);
      kernels.permute_range(bijection, 0, n, places.data());
      for (const bool table : {false, true}) {
        const Moves moves{key, n, bytes, table ? places.data() : nullptr};
        const Scratch scratch(move_scratch(moves));
        auto out = poisoned<uint8_t>(n * bytes);
        kernels.move_pixels(moves, image.data(), kIndices[3], out.data(), scratch.data);
        for (uint32_t i = 0; i < n; ++i) {
          const bool same =
              std::memcmp(&out[i * static_cast<size_t>(bytes)], &image[places[i] * static_cast<size_t>(bytes)],
                          static_cast<size_t>(bytes)) == 0;
          expect(same, kernels, "move_pixels", n, bytes, i);
        }
      }
    }
  }
}

// Element e of the noise of an image, in double precision.
double deviate(Key key, uint64_t index, int64_t element) {
  const uint64_t word = static_cast<uint64_t>(element) / 2;
  const Words words = draw(key, index, word / 4);
  const uint32_t values[] = {words.w0, words.w1, words.w2, words.w3};
  const uint32_t value = values[word % 4];
  const double radius = std::sqrt(-2.0 * std::log(((value >> 12) + 0.5) / 1048576.0));
  const double theta = 2.0 * 3.14159265358979323846 * ((value & 0xFFFu) + 0.5) / 4096.0;
  return radius * (element % 2 == 0 ? std::cos(theta) : std::sin(theta));
}

void check_noise(const Kernels& kernels) {
  for (const int64_t channels : {1, 3, 4, 37}) {
    std::vector<float> mean(static_cast<size_t>(channels + kPatternPadding)), std(mean.size());
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] = static_cast<float>(i % static_cast<size_t>(channels));
      std[i] = 1.0f + mean[i];
    }
    const Noise noise{make_key(kSeed, Stream::kGaussian), channels, mean.data(), std.data()};
    for (const int64_t count : {1, 7, 8, 63, 64, 65, 200}) {
      auto out = poisoned<float>(count * channels);
      kernels.gaussian(noise, kIndices[3], count * channels, out.data());
      for (int64_t e = 0; e < count * channels; ++e) {
        const size_t c = static_cast<size_t>(e % channels);
        const double want = deviate(noise.key, kIndices[3], e) * std[c] + mean[c];
        // 8 units of roundoff on a deviate of at most 5.4, and one more for each of two roundings: see the tests.
        const double bound = (8.0 * 5.4 * std[c] + 2.0 * (5.4 * std[c] + mean[c])) * 5.97e-8;
        expect(std::fabs(out[static_cast<size_t>(e)] - want) <= bound, kernels, "gaussian", count, channels, e);
      }
    }
  }
}

// The bytes of the prepared image before normalisation, for what involves neither noise nor rotation.
int64_t source_of(const Plan& plan, uint64_t index, int64_t y, int64_t x) {
  int64_t top = (plan.window_height - plan.out_height) / 2, left = (plan.window_width - plan.out_width) / 2;
  const Words words = draw(plan.augment, index, plan.epoch);
  if (plan.crop) {
    top = mulhi(words.w0, static_cast<uint32_t>(plan.window_height - plan.out_height + 1));
    left = mulhi(words.w1, static_cast<uint32_t>(plan.window_width - plan.out_width + 1));
  }
  if (plan.flip && words.w2 >= 0x80000000u) x = plan.out_width - 1 - x;
  auto place = static_cast<uint32_t>((top + y) * plan.window_width + left + x);
  if (plan.corruption == Corruption::kRandomPixels)
    place = permute(make_bijection(plan.moves.key, index, plan.moves.n), place);
  if (plan.corruption == Corruption::kShuffledPixels) place = plan.moves.places[place];
  return ((plan.window_top + place / plan.window_width) * plan.width + plan.window_left + place % plan.window_width);
}

void check_prepared(const Kernels& kernels, const Plan& plan, const std::vector<uint8_t>& images, uint64_t index) {
  const int64_t elements = plan.out_height * plan.out_width * plan.channels;
  const Scratch scratch(prepare_scratch(plan));
  auto out = poisoned<uint8_t>(elements * (plan.bfloat16 ? 2 : 4));
  const int64_t row = 1;
  kernels.prepare(plan, row, index, out.data(), scratch.data);
  for (int64_t e = 0; e < elements; ++e) {
    const int64_t channel = e % plan.channels, pixel = e / plan.channels;
    uint32_t bits = 0;
    if (plan.bfloat16) {
      std::memcpy(reinterpret_cast<uint8_t*>(&bits) + 2, &out[static_cast<size_t>(2 * e)], 2);
    } else {
      std::memcpy(&bits, &out[static_cast<size_t>(4 * e)], 4);
    }
    float got;
    std::memcpy(&got, &bits, 4);
    expect(std::isfinite(got) && bits != 0xA5A5A5A5u && bits != 0xA5A50000u, kernels, "prepare", elements, e, row);
    if (plan.whiten || plan.rotation || plan.bfloat16 || plan.corruption == Corruption::kGaussian) continue;
    const int64_t place = source_of(plan, index, pixel / plan.out_width, pixel % plan.out_width);
    const int64_t at = (row * plan.height * plan.width + place) * plan.channels + channel;
    const float want = static_cast<float>(images[static_cast<size_t>(at)]) / 127.5f - 1.0f;
    expect(got == want, kernels, "prepare", elements, e, at);
  }
}

void check_prepare(const Kernels& kernels) {
  const int64_t shapes[][7] = {
      // height, width, window top, left, height, width, channels
      {1, 1, 0, 0, 1, 1, 1}, {7, 9, 0, 0, 7, 9, 3},     {7, 63, 1, 2, 5, 60, 3},
      {8, 8, 0, 0, 8, 8, 4}, {50, 51, 3, 0, 46, 51, 1}, {47, 45, 0, 0, 47, 45, 3},
  };
  for (const auto& shape : shapes) {
    Plan plan{};
    plan.height = shape[0], plan.width = shape[1], plan.window_top = shape[2], plan.window_left = shape[3];
    plan.window_height = shape[4], plan.window_width = shape[5], plan.channels = shape[6];
    const auto images = pixels(2 * plan.height * plan.width * plan.channels);
    plan.images = images.data();
    plan.augment = make_key(kSeed, Stream::kAugment);
    plan.epoch = uint64_t{1} << 40;
    const auto n = static_cast<uint32_t>(plan.window_height * plan.window_width);
    std::vector<uint32_t> places(n);
    kernels.permute_range(make_bijection(make_key(kSeed, Stream::kShuffledPixels), 0, n), 0, n, places.data());
    const std::vector<float> mean(static_cast<size_t>(plan.channels + kPatternPadding), 120.0f);
    plan.noise = Noise{make_key(kSeed, Stream::kGaussian), plan.channels, mean.data(), mean.data()};
    for (int choice = 0; choice < 4 * 2 * 2 * 2 * 2 * 2 * 2; ++choice) {
      plan.corruption = static_cast<Corruption>(choice % 4);
      const bool table = plan.corruption == Corruption::kShuffledPixels;
      plan.moves = Moves{make_key(kSeed, Stream::kRandomPixels), n, plan.channels, table ? places.data() : nullptr};
      plan.crop = choice / 4 % 2, plan.flip = choice / 8 % 2, plan.rotation = choice / 16 % 2;
      plan.whiten = choice / 32 % 2, plan.bfloat16 = choice / 64 % 2, plan.streamed = choice / 128 % 2;
      plan.out_height = plan.crop ? (plan.window_height + 1) / 2 : plan.window_height;
      plan.out_width = plan.crop ? (plan.window_width + 2) / 3 : plan.window_width;
      for (const uint64_t index : kIndices) check_prepared(kernels, plan, images, index);
    }
  }
}

// The definition in rethink_fast/data/resize.py, place by place, in whole numbers without bounds.
int64_t weight(int64_t k, int64_t o, int64_t from, int64_t to) {
  const int64_t away = std::llabs((2 * k + 1) * to - (2 * o + 1) * from), support = 2 * (from > to ? from : to);
  return k < 0 || k >= from || away >= support ? 0 : support - away;
}

std::vector<int64_t> weights(int64_t o, int64_t from, int64_t to) {
  std::vector<int64_t> out(static_cast<size_t>(from));
  int64_t sum = 0, left = 16384;
  for (int64_t k = 0; k < from; ++k) sum += weight(k, o, from, to);
  size_t largest = 0;
  for (size_t k = 0; k < out.size(); ++k) {
    out[k] = (weight(static_cast<int64_t>(k), o, from, to) * 16384 + sum / 2) / sum;
    left -= out[k];
    if (out[k] > out[largest]) largest = k;
  }
  out[largest] += left;
  return out;
}

void check_resize(const Kernels& kernels) {
  const int64_t shapes[][4] = {{1, 1, 1, 1}, {1, 1, 3, 5},   {7, 5, 3, 3},  {5, 7, 9, 4},
                               {9, 6, 9, 6}, {3, 40, 2, 13}, {64, 5, 3, 1}, {6, 33, 11, 34}};
  for (const auto& shape : shapes) {
    const int64_t height = shape[0], width = shape[1], out_height = shape[2], out_width = shape[3];
    const auto image = pixels(height * width * 3);
    const Scratch scratch(resize_scratch(height, width, out_height, out_width));
    auto out = poisoned<uint8_t>(out_height * out_width * 3);
    kernels.resize(image.data(), height, width, out_height, out_width, out.data(), scratch.data);
    for (int64_t y = 0; y < out_height; ++y) {
      const auto down = weights(y, height, out_height);
      for (int64_t x = 0; x < out_width; ++x) {
        const auto across = weights(x, width, out_width);
        for (int64_t c = 0; c < 3; ++c) {
          int64_t sum = 1 << 19;
          for (int64_t j = 0; j < width; ++j) {
            int64_t row = 128;
            for (int64_t i = 0; i < height; ++i)
              row += down[static_cast<size_t>(i)] * image[static_cast<size_t>((i * width + j) * 3 + c)];
            sum += across[static_cast<size_t>(j)] * (row >> 8);
          }
          expect(out[static_cast<size_t>((y * out_width + x) * 3 + c)] == sum >> 20, kernels, "resize", height, width,
                 (y * out_width + x) * 3 + c);
        }
      }
    }
  }
}

}  // namespace
}  // namespace rethink_fast

int main() {
  using namespace rethink_fast;
  for (const char* name : {"avx512", "avx2", "baseline"}) {
    const Kernels* kernels = find_kernels(name);
    if (kernels == nullptr) continue;
    check_labels(*kernels);
    check_permutations(*kernels);
    check_moves(*kernels);
    check_noise(*kernels);
    check_prepare(*kernels);
    check_resize(*kernels);
    std::printf("%s: fine\n", kernels->name);
  }
  return 0;
}
