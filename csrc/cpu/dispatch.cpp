// Which kernels run here, and how much scratch memory they need.

#include <cstring>

#include "kernels.h"

namespace rethink_fast {

namespace baseline {
extern const Kernels kKernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

namespace {

// As in draws.h, prepare.h, random_pixels.h and resize.h.
constexpr int64_t kChunk = 2048, kBorder = 3, kOverrun = 64, kGroup = 4;

size_t piece(int64_t bytes) { return static_cast<size_t>((bytes + kOverrun + 63) / 64 * 64); }

bool usable(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &avx512::kKernels) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  }
  if (&kernels == &avx2::kKernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return &kernels == &baseline::kKernels;
}

const Kernels* const kTable[] = {
#if defined(__x86_64__)
    &avx512::kKernels,
    &avx2::kKernels,
#endif
    &baseline::kKernels,
};

}  // namespace

size_t move_scratch(const Moves& moves) { return piece(static_cast<int64_t>(moves.n) * moves.pixel_bytes); }

size_t prepare_scratch(const Plan& plan) {
  const int64_t element = plan.corruption == Corruption::kGaussian ? 4 : 1;
  const int64_t elements = plan.out_height * plan.out_width * plan.channels;
  size_t bytes = piece(kChunk * 4) + piece(plan.window_height * plan.window_width * plan.channels);
  if (plan.rotation) {
    bytes += piece((plan.out_height + kBorder) * (plan.out_width + kBorder) * plan.channels * element);
    bytes += piece(elements * 4);
  } else {
    bytes += piece((plan.whiten ? elements : kChunk * plan.channels) * element);
  }
  return bytes;
}

size_t resize_scratch(int64_t height, int64_t width, int64_t out_height, int64_t out_width) {
  const int64_t down = resize_pairs(height, out_height), across = resize_pairs(width, out_width);
  const int64_t places = (out_width + kGroup - 1) / kGroup * kGroup;
  return piece(4 * out_height) + piece(4 * down * out_height) + piece(4 * places) + piece(4 * across * places) +
         piece(2 * (3 * width + 6 * across + 8)) + piece(16 * across * places);
}

const Kernels* find_kernels(const char* name) {
  for (const Kernels* kernels : kTable) {
    if (std::strcmp(kernels->name, name) == 0 && usable(*kernels)) return kernels;
  }
  return nullptr;
}

const Kernels& best_kernels() {
  static const Kernels& best = []() -> const Kernels& {
    for (const Kernels* kernels : kTable) {
      if (usable(*kernels)) return *kernels;
    }
    return baseline::kKernels;
  }();
  return best;
}

}  // namespace rethink_fast

// For kernels/native.py.
extern "C" __attribute__((visibility("default"))) const char* rethink_fast_instruction_set() {
  return rethink_fast::best_kernels().name;
}
