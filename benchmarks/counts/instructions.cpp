// Every CPU kernel on a few images, each in a function of its own, so that callgrind can count the instructions of
// each: benchmarks/counts/instructions.py builds and runs this. Prints the functions in the order in which they run.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

using namespace rethink_fast;

namespace {

constexpr int kImages = 4;
constexpr int64_t kSide = 32, kChannels = 3, kPixels = kSide * kSide, kElements = kPixels * kChannels;
constexpr uint64_t kSeed = 11;

struct Everything {
  const Kernels* kernels;
  std::vector<uint8_t> images, moved;
  std::vector<uint32_t> places;
  std::vector<float> mean, out;
  std::vector<int64_t> labels, index, drawn;
  uint8_t* scratch;
  Moves random, shuffled;
  Noise noise;
  Plan plan;
} all;

void prepare_all(Corruption corruption, bool whiten, bool bfloat16) {
  all.plan.corruption = corruption;
  all.plan.moves = corruption == Corruption::kShuffledPixels ? all.shuffled : all.random;
  all.plan.whiten = whiten, all.plan.bfloat16 = bfloat16;
  for (int i = 0; i < kImages; ++i) {
    all.kernels->prepare(all.plan, i, static_cast<uint64_t>(i), all.out.data(), all.scratch);
  }
}

}  // namespace

#define CASE(name) extern "C" __attribute__((noinline)) void case_##name()

CASE(corrupt_labels) {
  all.kernels->corrupt_labels(all.labels.data(), all.index.data(), all.drawn.data(), kImages, 10, uint64_t{1} << 31,
                              make_key(kSeed, Stream::kLabels));
}
CASE(order) {
  all.kernels->permute_range(make_bijection(make_key(kSeed, Stream::kOrder), 0, kPixels), 0, kPixels,
                             all.places.data());
}
CASE(random_pixels) {
  for (uint64_t i = 0; i < kImages; ++i)
    all.kernels->move_pixels(all.random, &all.images[i * kElements], i, all.moved.data(), all.scratch);
}
CASE(shuffled_pixels) {
  for (uint64_t i = 0; i < kImages; ++i)
    all.kernels->move_pixels(all.shuffled, &all.images[i * kElements], i, all.moved.data(), all.scratch);
}
CASE(gaussian) {
  for (uint64_t i = 0; i < kImages; ++i) all.kernels->gaussian(all.noise, i, kElements, all.out.data());
}
CASE(prepare_true) { prepare_all(Corruption::kNone, false, false); }
CASE(prepare_true_bfloat16) { prepare_all(Corruption::kNone, false, true); }
CASE(prepare_true_whitened) { prepare_all(Corruption::kNone, true, false); }
CASE(prepare_shuffled_pixels) { prepare_all(Corruption::kShuffledPixels, false, false); }
CASE(prepare_random_pixels) { prepare_all(Corruption::kRandomPixels, false, false); }
CASE(prepare_gaussian) { prepare_all(Corruption::kGaussian, false, false); }
CASE(prepare_augmented) {
  all.plan.crop = all.plan.flip = true;
  all.plan.out_height = all.plan.out_width = 28;
  prepare_all(Corruption::kNone, true, false);
}
CASE(prepare_rotated) {
  all.plan.rotation = true;
  prepare_all(Corruption::kNone, true, false);
}
CASE(resize) {
  for (int i = 0; i < kImages; ++i)
    all.kernels->resize(&all.images[i * kElements], kSide, kSide, 21, 21, all.moved.data(), all.scratch);
}

#define RUN(name) case_##name(), std::puts(#name)

int main(int argc, char** argv) {
  all.kernels = argc > 1 ? find_kernels(argv[1]) : nullptr;
  if (all.kernels == nullptr) return 3;  // not on this machine, or not under valgrind
  all.images.resize(kImages * kElements);
  for (size_t i = 0; i < all.images.size(); ++i) all.images[i] = static_cast<uint8_t>(i * 7);
  all.moved.resize(kElements), all.out.resize(kElements), all.places.resize(kPixels);
  all.mean.assign(kChannels + kPatternPadding, 120.0f);
  all.labels = {1, 2, 3, 4}, all.index = {0, 1, 2, 3}, all.drawn.resize(kImages);
  const auto n = static_cast<uint32_t>(kPixels);
  all.kernels->permute_range(make_bijection(make_key(kSeed, Stream::kShuffledPixels), 0, n), 0, n, all.places.data());
  const std::vector<uint32_t> places = all.places;
  all.random = Moves{make_key(kSeed, Stream::kRandomPixels), n, kChannels, nullptr};
  all.shuffled = Moves{make_key(kSeed, Stream::kShuffledPixels), n, kChannels, places.data()};
  all.noise = Noise{make_key(kSeed, Stream::kGaussian), kChannels, all.mean.data(), all.mean.data()};
  Plan& plan = all.plan;
  plan.images = all.images.data();
  plan.height = plan.width = plan.window_height = plan.window_width = plan.out_height = plan.out_width = kSide;
  plan.channels = kChannels, plan.noise = all.noise, plan.moves = all.random;
  plan.augment = make_key(kSeed, Stream::kAugment), plan.epoch = 3;
  all.scratch = static_cast<uint8_t*>(std::aligned_alloc(64, 1 << 20));
  RUN(corrupt_labels), RUN(order), RUN(random_pixels), RUN(shuffled_pixels), RUN(gaussian);
  RUN(prepare_true), RUN(prepare_true_bfloat16), RUN(prepare_true_whitened), RUN(prepare_shuffled_pixels);
  RUN(prepare_random_pixels), RUN(prepare_gaussian), RUN(prepare_augmented), RUN(prepare_rotated), RUN(resize);
  std::free(all.scratch);
  return 0;
}
