// The ops on CPU tensors: check, allocate, share the batch out over torch's threads. The Python face has already
// refused bad arguments with better words; the checks here keep memory safe whoever calls.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace rethink_fast {
namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

// The least work, in bytes written, that is worth a thread.
constexpr int64_t kGrain = 1 << 16;

// An output of this size would push everything else out of the caches, and not be in them when it is read.
constexpr int64_t kStreamed = int64_t{32} << 20;

// Of an image to be resized: the products of its sides and a weight stay far below 2^63.
constexpr int64_t kLongest = int64_t{1} << 20;

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

Tensor dense(const Tensor& tensor) { return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor); }

Tensor checked_index(const Tensor& index, const char* name, int64_t count) {
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Long, name, " must be int64");
  STD_TORCH_CHECK(index.dim() == 1 && index.size(0) == count, name, " must have one entry for each sample");
  return dense(index);
}

Tensor checked_images(const Tensor& images) {
  STD_TORCH_CHECK(images.dim() == 4, "images must be [B, H, W, C]");
  for (int64_t dim = 1; dim < 4; ++dim)
    STD_TORCH_CHECK(images.size(dim) >= 1, "an image must have at least one element");
  STD_TORCH_CHECK(images.size(1) <= (int64_t{1} << 31) / images.size(2), "an image may have at most 2^31 pixels");
  return dense(images);
}

uint64_t checked_seed(int64_t seed) {
  STD_TORCH_CHECK(seed >= 0, "seed must be in [0, 2^63)");
  return static_cast<uint64_t>(seed);
}

// Read at every call: a graph that holds the call must not hold one epoch.
uint64_t checked_epoch(const Tensor& epoch) {
  STD_TORCH_CHECK(epoch.scalar_type() == ScalarType::Long && epoch.dim() == 0, "epoch must be int64 of no dimensions");
  const int64_t value = *data<int64_t>(epoch);
  STD_TORCH_CHECK(value >= 0, "epoch must be in [0, 2^63)");
  return static_cast<uint64_t>(value);
}

// A fresh large output is mapped page by page as it is first written; huge pages make that several times cheaper, and
// only where the system lets programs ask for them.
void ask_for_huge_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) & ~(kHuge - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(kHuge - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

Tensor new_output(Sizes sizes, ScalarType dtype, int64_t element, MemoryFormat format = MemoryFormat::Contiguous) {
  Tensor out = torch::stable::empty(sizes, dtype, std::nullopt, std::nullopt, std::nullopt, format);
  ask_for_huge_pages(out.mutable_data_ptr(), static_cast<size_t>(out.numel() * element));
  return out;
}

// Memory aligned to 64 bytes for one thread.
struct Free {
  void operator()(uint8_t* data) const { std::free(data); }
};
std::unique_ptr<uint8_t, Free> scratch(size_t bytes) {
  auto* data = static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
  STD_TORCH_CHECK(data != nullptr, "out of memory: ", bytes, " bytes for one thread");
  return std::unique_ptr<uint8_t, Free>(data);
}

// The one permutation of shuffled_pixels, kept for the next call: a run asks for the same one at every batch.
std::shared_ptr<const std::vector<uint32_t>> shuffled_places(uint64_t seed, uint32_t n) {
  static std::mutex mutex;
  static std::shared_ptr<const std::vector<uint32_t>> kept;
  static uint64_t kept_seed = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (kept == nullptr || kept_seed != seed || kept->size() != n) {
    auto places = std::make_shared<std::vector<uint32_t>>(n);
    const Bijection bijection = make_bijection(make_key(seed, Stream::kShuffledPixels), 0, n);
    best_kernels().permute_range(bijection, 0, n, places->data());
    kept = std::move(places);
    kept_seed = seed;
  }
  return kept;
}

// The channels' statistics, repeated so that a vector may start at any channel.
struct Pattern {
  std::vector<float> mean, std;

  Pattern(const Tensor& mean_tensor, const Tensor& std_tensor)
      : mean(repeated(mean_tensor)), std(repeated(std_tensor)) {
    STD_TORCH_CHECK(mean.size() == std.size(), "mean and std must have one entry for each channel");
  }

  static std::vector<float> repeated(const Tensor& tensor) {
    STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float, "mean and std must be float32");
    STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) >= 1, "mean and std must have one entry for each channel");
    const Tensor values = dense(tensor);
    const size_t channels = static_cast<size_t>(values.size(0));
    std::vector<float> out(channels + kPatternPadding);
    for (size_t i = 0; i < out.size(); ++i) out[i] = data<float>(values)[i % channels];
    return out;
  }

  Noise noise(uint64_t seed) const {
    return Noise{make_key(seed, Stream::kGaussian), static_cast<int64_t>(mean.size()) - kPatternPadding, mean.data(),
                 std.data()};
  }
};

int64_t images_a_thread(int64_t bytes) { return bytes >= kGrain ? 1 : kGrain / (bytes + 1) + 1; }

Tensor corrupt_labels(const Tensor& labels, const Tensor& index, int64_t num_classes, double probability,
                      int64_t seed) {
  STD_TORCH_CHECK(labels.scalar_type() == ScalarType::Long && labels.dim() == 1, "labels must be int64 [B]");
  STD_TORCH_CHECK(num_classes >= 1 && num_classes <= (int64_t{1} << 31), "num_classes must be in [1, 2^31]");
  STD_TORCH_CHECK(probability >= 0.0 && probability <= 1.0, "probability must be in [0, 1]");
  const Tensor from = dense(labels), samples = checked_index(index, "index", labels.size(0));
  const Key key = make_key(checked_seed(seed), Stream::kLabels);
  const auto threshold = static_cast<uint64_t>(std::nearbyint(probability * 4294967296.0));  // half to even
  Tensor out = new_output(labels.sizes(), ScalarType::Long, 8);
  auto* to = static_cast<int64_t*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  torch::stable::parallel_for(0, labels.size(0), kGrain / 8, [&](int64_t begin, int64_t end) {
    kernels.corrupt_labels(data<int64_t>(from) + begin, data<int64_t>(samples) + begin, to + begin, end - begin,
                           static_cast<uint32_t>(num_classes), threshold, key);
  });
  return out;
}

// index: null for shuffled_pixels.
Tensor move_pixels(const Tensor& images, const int64_t* index, const Moves& moves) {
  const int64_t bytes = static_cast<int64_t>(moves.n) * moves.pixel_bytes;
  Tensor out = new_output(images.sizes(), images.scalar_type(), static_cast<int64_t>(images.element_size()));
  const auto* from = static_cast<const uint8_t*>(images.const_data_ptr());
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  torch::stable::parallel_for(0, images.size(0), images_a_thread(bytes), [&](int64_t begin, int64_t end) {
    const auto memory = scratch(move_scratch(moves));
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t sample = index == nullptr ? 0 : static_cast<uint64_t>(index[i]);
      kernels.move_pixels(moves, from + i * bytes, sample, to + i * bytes, memory.get());
    }
  });
  return out;
}

Tensor shuffled_pixels(const Tensor& images, int64_t seed) {
  const Tensor from = checked_images(images);
  const auto n = static_cast<uint32_t>(from.size(1) * from.size(2));
  const auto places = shuffled_places(checked_seed(seed), n);
  return move_pixels(from, nullptr,
                     Moves{Key{}, n, from.size(3) * static_cast<int64_t>(from.element_size()), places->data()});
}

Tensor random_pixels(const Tensor& images, const Tensor& index, int64_t seed) {
  const Tensor from = checked_images(images), samples = checked_index(index, "index", from.size(0));
  const auto n = static_cast<uint32_t>(from.size(1) * from.size(2));
  const Key key = make_key(checked_seed(seed), Stream::kRandomPixels);
  return move_pixels(from, data<int64_t>(samples),
                     Moves{key, n, from.size(3) * static_cast<int64_t>(from.element_size()), nullptr});
}

Tensor gaussian(const Tensor& index, int64_t height, int64_t width, const Tensor& mean, const Tensor& std,
                int64_t seed) {
  const Tensor samples = checked_index(index, "index", index.numel());
  STD_TORCH_CHECK(height >= 1 && width >= 1 && height <= (int64_t{1} << 31) / width, "1 to 2^31 pixels are allowed");
  const Pattern pattern(mean, std);
  const Noise noise = pattern.noise(checked_seed(seed));
  const int64_t elements = height * width * noise.channels;
  const std::vector<int64_t> sizes{samples.size(0), height, width, noise.channels};
  Tensor out = new_output(sizes, ScalarType::Float, 4);
  auto* to = static_cast<float*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  torch::stable::parallel_for(0, samples.size(0), images_a_thread(4 * elements), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels.gaussian(noise, static_cast<uint64_t>(data<int64_t>(samples)[i]), elements, to + i * elements);
    }
  });
  return out;
}

Tensor order(int64_t seed, int64_t epoch, int64_t n, int64_t start, int64_t stop) {
  STD_TORCH_CHECK(n >= 1 && n <= (int64_t{1} << 31), "n must be in [1, 2^31]");
  STD_TORCH_CHECK(start >= 0 && start <= stop && stop <= n, "0 <= start <= stop <= n must hold");
  STD_TORCH_CHECK(epoch >= 0, "epoch must be in [0, 2^63)");
  const Bijection bijection = make_bijection(make_key(checked_seed(seed), Stream::kOrder), static_cast<uint64_t>(epoch),
                                             static_cast<uint32_t>(n));
  const std::vector<int64_t> sizes{stop - start};
  Tensor out = new_output(sizes, ScalarType::Long, 8);
  auto* to = static_cast<int64_t*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  torch::stable::parallel_for(start, stop, kGrain / 8, [&](int64_t begin, int64_t end) {
    constexpr int64_t kPart = 1024;
    uint32_t part[kPart];
    for (int64_t first = begin; first < end; first += kPart) {
      const int64_t count = end - first < kPart ? end - first : kPart;
      kernels.permute_range(bijection, static_cast<uint32_t>(first), count, part);
      for (int64_t i = 0; i < count; ++i) to[first - start + i] = part[i];
    }
  });
  return out;
}

Corruption corruption_named(const std::string& name) {
  if (name.empty()) return Corruption::kNone;
  if (name == "shuffled_pixels") return Corruption::kShuffledPixels;
  if (name == "random_pixels") return Corruption::kRandomPixels;
  STD_TORCH_CHECK(name == "gaussian", "corruption '", name, "' is unknown");
  return Corruption::kGaussian;
}

Tensor prepare(const Tensor& images, const Tensor& rows, const Tensor& index, std::vector<int64_t> window,
               std::string corruption, int64_t seed, std::optional<Tensor> mean, std::optional<Tensor> std,
               std::vector<int64_t> size, bool crop, bool flip, bool rotation, std::optional<Tensor> epoch,
               std::string normalisation, ScalarType dtype) {
  STD_TORCH_CHECK(images.scalar_type() == ScalarType::Byte, "images must be uint8");
  const Tensor from = checked_images(images);
  const int64_t batch = rows.numel();
  const Tensor places_of = checked_index(rows, "rows", batch), samples = checked_index(index, "index", batch);
  STD_TORCH_CHECK(window.size() == 4 && size.size() == 2, "window has four entries and size two");
  const int64_t height = window[2], width = window[3];
  STD_TORCH_CHECK(window[0] >= 0 && window[1] >= 0 && height >= 1 && width >= 1 && height <= from.size(1) - window[0] &&
                      width <= from.size(2) - window[1],
                  "window must lie in the image");
  STD_TORCH_CHECK(size[0] >= 1 && size[1] >= 1 && size[0] <= height && size[1] <= width, "size must fit the window");
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16, "dtype must be float32 or bfloat16");
  STD_TORCH_CHECK(normalisation == "whiten" || normalisation == "unit_range", "normalisation '", normalisation,
                  "' is unknown");
  const bool bfloat16 = dtype == ScalarType::BFloat16, random = epoch.has_value();
  const bool resized = size[0] != height || size[1] != width;
  const uint64_t key_seed = checked_seed(seed);
  const auto n = static_cast<uint32_t>(height * width);

  Plan plan{};
  plan.images = data<uint8_t>(from);
  plan.height = from.size(1), plan.width = from.size(2), plan.channels = from.size(3);
  plan.window_top = window[0], plan.window_left = window[1], plan.window_height = height, plan.window_width = width;
  plan.out_height = size[0], plan.out_width = size[1];
  plan.corruption = corruption_named(corruption);
  plan.augment = make_key(key_seed, Stream::kAugment);
  plan.epoch = random ? checked_epoch(*epoch) : 0;
  plan.crop = crop && random && resized, plan.flip = flip && random, plan.rotation = rotation && random;
  plan.whiten = normalisation == "whiten", plan.bfloat16 = bfloat16;

  std::shared_ptr<const std::vector<uint32_t>> places;
  std::optional<Pattern> pattern;
  if (plan.corruption == Corruption::kShuffledPixels) {
    places = shuffled_places(key_seed, n);
    plan.moves = Moves{Key{}, n, plan.channels, places->data()};
  } else if (plan.corruption == Corruption::kRandomPixels) {
    plan.moves = Moves{make_key(key_seed, Stream::kRandomPixels), n, plan.channels, nullptr};
  } else if (plan.corruption == Corruption::kGaussian) {
    STD_TORCH_CHECK(mean.has_value() && std.has_value(), "gaussian needs mean and std");
    pattern.emplace(*mean, *std);
    plan.noise = pattern->noise(key_seed);
    STD_TORCH_CHECK(plan.noise.channels == plan.channels, "mean and std must have one entry for each channel");
  }

  const auto* row = data<int64_t>(places_of);
  for (int64_t i = 0; i < batch; ++i) {
    STD_TORCH_CHECK(row[i] >= 0 && row[i] < from.size(0), "row ", row[i], " is outside the ", from.size(0), " images");
  }
  const int64_t element = bfloat16 ? 2 : 4, bytes = size[0] * size[1] * plan.channels * element;
  plan.streamed = batch * bytes >= kStreamed;
  const std::vector<int64_t> sizes{batch, plan.channels, size[0], size[1]};
  Tensor out = new_output(sizes, dtype, element, MemoryFormat::ChannelsLast);
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  torch::stable::parallel_for(0, batch, images_a_thread(bytes), [&](int64_t begin, int64_t end) {
    const auto memory = scratch(prepare_scratch(plan));
    for (int64_t i = begin; i < end; ++i) {
      kernels.prepare(plan, row[i], static_cast<uint64_t>(data<int64_t>(samples)[i]), to + i * bytes, memory.get());
    }
  });
  return out;
}

// In the calling thread alone: whoever reads images shares them out over threads of its own.
void resize(const std::vector<Tensor>& images, const Tensor& out) {
  STD_TORCH_CHECK(out.scalar_type() == ScalarType::Byte && out.dim() == 4 && out.size(3) == 3 && out.is_contiguous(),
                  "out must be uint8 [B, H, W, 3], contiguous");
  STD_TORCH_CHECK(out.size(0) == static_cast<int64_t>(images.size()), "out must have one place for each image");
  const int64_t out_height = out.size(1), out_width = out.size(2);
  STD_TORCH_CHECK(out_height >= 1 && out_width >= 1, "an image must have at least one element");
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  const Kernels& kernels = best_kernels();
  std::unique_ptr<uint8_t, Free> memory;
  size_t held = 0;
  for (const Tensor& image : images) {
    STD_TORCH_CHECK(image.scalar_type() == ScalarType::Byte && image.dim() == 3 && image.size(2) == 3,
                    "images must be uint8 [H, W, 3]");
    const Tensor from = dense(image);
    const int64_t height = from.size(0), width = from.size(1);
    STD_TORCH_CHECK(height >= 1 && width >= 1, "an image must have at least one element");
    STD_TORCH_CHECK(height <= kLongest && width <= kLongest && out_height <= kLongest && out_width <= kLongest,
                    "an image may be at most ", kLongest, " pixels high or wide");
    const size_t bytes = resize_scratch(height, width, out_height, out_width);
    if (bytes > held) memory = scratch(bytes), held = bytes;
    kernels.resize(data<uint8_t>(from), height, width, out_height, out_width, to, memory.get());
    to += out_height * out_width * 3;
  }
}

}  // namespace
}  // namespace rethink_fast

STABLE_TORCH_LIBRARY_IMPL(rethink_fast, CPU, m) {
  m.impl("corrupt_labels", TORCH_BOX(&rethink_fast::corrupt_labels));
  m.impl("shuffled_pixels", TORCH_BOX(&rethink_fast::shuffled_pixels));
  m.impl("random_pixels", TORCH_BOX(&rethink_fast::random_pixels));
  m.impl("gaussian", TORCH_BOX(&rethink_fast::gaussian));
  m.impl("prepare", TORCH_BOX(&rethink_fast::prepare));
  m.impl("resize", TORCH_BOX(&rethink_fast::resize));
}

// No tensor among its arguments, so nothing to choose a device by.
STABLE_TORCH_LIBRARY_IMPL(rethink_fast, CompositeExplicitAutograd, m) {
  m.impl("order", TORCH_BOX(&rethink_fast::order));
}
