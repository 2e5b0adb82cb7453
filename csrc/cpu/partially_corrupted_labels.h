// partially_corrupted_labels: draw, compare with the threshold, take the drawn class.

#pragma once

#include "draws.h"

namespace rethink_fast {
namespace RF_ISA {

static void corrupt_labels(const int64_t* labels, const int64_t* index, int64_t* out, int64_t count, uint32_t classes,
                           uint64_t threshold, Key key) {
  int64_t i = 0;
  for (; i + kWideLanes <= count; i += kWideLanes) {
    const u64 sample = load<u64>(index + i);
    const WideWords words = wide_philox(key, WideWords{sample, sample >> 32, u64{}, u64{}});
    const u64 drawn = multiply_low(words.w1, u64{} + classes) >> 32;
    const u64 corrupted = (u64)((words.w0 & 0xFFFFFFFFu) < u64{} + threshold);
    store(out + i, (drawn & corrupted) | (load<u64>(labels + i) & ~corrupted));
  }
  for (; i < count; ++i) {
    const Words words = draw(key, static_cast<uint64_t>(index[i]), 0);
    out[i] = words.w0 < threshold ? static_cast<int64_t>(mulhi(words.w1, classes)) : labels[i];
  }
}

}  // namespace RF_ISA
}  // namespace rethink_fast
