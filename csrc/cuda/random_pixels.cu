// random_pixels_staged: checks, allocates and launches random_pixels.cuh. An op under a name of its own beside the
// Triton kernel, until `make gpu-check` on a GPU says which is faster.

#include <cuda_runtime.h>

#include <algorithm>
#include <tuple>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "random_pixels.cuh"

namespace {

using namespace rethink_fast;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr uint32_t kMostThreads = 768;  // 24 warps of 85 registers

template <int kChannels>
void launch(Tensor& out, const Tensor& images, const Tensor& index, int64_t seed) {
  const auto n = static_cast<uint32_t>(images.size(1) * images.size(2));
  const uint32_t warps = std::min((n + kPixelsPerWarp - 1) / kPixelsPerWarp, kMostThreads / kWarp);
  const uint32_t tiles = warps * tile_bytes(kChannels);
  int device = 0, limit = 0;
  STD_CUDA_CHECK(cudaGetDevice(&device));
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const auto kernel = random_pixels_kernel<kChannels>;
  // the opt-in limit counts the bijection in static shared memory too
  const uint32_t room = static_cast<uint32_t>(limit) - sizeof(TopBijection) - tiles - kVector;
  const uint32_t staged = std::min(n * kChannels, room);
  const uint32_t dynamic = tiles + staged + kVector;
  STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic)));
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(images.get_device_index(), &stream));
  kernel<<<static_cast<uint32_t>(images.size(0)), warps * kWarp, dynamic, static_cast<cudaStream_t>(stream)>>>(
      out.mutable_data_ptr<uint8_t>(), images.const_data_ptr<uint8_t>(), index.const_data_ptr<int64_t>(),
      make_key(static_cast<uint64_t>(seed), Stream::kRandomPixels), n, staged);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor random_pixels_staged(const Tensor& given, const Tensor& given_index, int64_t seed) {
  STD_TORCH_CHECK(given.is_cuda() && given_index.is_cuda(), "images and index must be on the GPU");
  STD_TORCH_CHECK(given.scalar_type() == ScalarType::Byte && given.dim() == 4, "images must be uint8 [B, H, W, C]");
  STD_TORCH_CHECK(given_index.scalar_type() == ScalarType::Long && given_index.dim() == 1 &&
                      given_index.size(0) == given.size(0),
                  "index must be int64 [B]");
  STD_TORCH_CHECK(given.size(3) == 1 || given.size(3) == 3, "images must have 1 or 3 channels");
  STD_TORCH_CHECK(given.size(1) * given.size(2) <= (int64_t{1} << 30), "images of 2^30 pixels are the largest");
  STD_TORCH_CHECK(seed >= 0, "seed must be in [0, 2^63)");
  const torch::stable::accelerator::DeviceGuard guard(given.get_device_index());
  const Tensor images = torch::stable::contiguous(given), index = torch::stable::contiguous(given_index);
  Tensor out = torch::stable::empty_like(images);
  if (out.numel() != 0) (images.size(3) == 1 ? launch<1> : launch<3>)(out, images, index, seed);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(rethink_fast, m) {
  m.def("random_pixels_staged(Tensor images, Tensor index, int seed) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(rethink_fast, CUDA, m) {
  m.impl("random_pixels_staged", TORCH_BOX(&random_pixels_staged));
}
