// moved_pixels: checks, allocates and launches moved_pixels.cuh. kernels/triton_preprocess.py calls it for the images
// that it suits; the Triton kernel there does the others.

#include <cuda_runtime.h>

#include <algorithm>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "moved_pixels.cuh"

namespace {

using namespace rethink_fast;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr uint32_t kTableThreads = 256;

uint32_t attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  STD_CUDA_CHECK(cudaGetDevice(&device));
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return static_cast<uint32_t>(value);
}

template <typename T, bool kTable>
void launch(Tensor& out, const Tensor& images, const Tensor& rows, const Tensor& index, uint32_t* table, Key key,
            cudaStream_t stream) {
  const auto batch = static_cast<uint32_t>(rows.size(0)), n = static_cast<uint32_t>(images.size(1) * images.size(2));
  const auto kernel = moved_pixels_kernel<T, kTable>;
  const uint32_t tiles = kThreads / kWarp * kTileBytes;
  // the opt-in limit counts the bijection in static shared memory too; the last word read may end beyond the image
  const uint32_t room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - sizeof(TopBijection) - tiles - 2 * kVector;
  const uint32_t staged = std::min(n * kChannels, room), dynamic = tiles + staged + 2 * kVector;
  STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic)));
  // one block fits a multiprocessor: a small batch divides its images among them
  const uint32_t parts = std::max(attribute(cudaDevAttrMultiProcessorCount) / batch, 1u);
  kernel<<<batch * parts, kThreads, dynamic, stream>>>(
      static_cast<T*>(out.mutable_data_ptr()), images.const_data_ptr<uint8_t>(), rows.const_data_ptr<int64_t>(),
      index.const_data_ptr<int64_t>(), table, key, n, staged, parts);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch(Tensor& out, const Tensor& images, const Tensor& rows, const Tensor& index, bool shared, int64_t seed) {
  void* current = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(images.get_device_index(), &current));
  const auto stream = static_cast<cudaStream_t>(current);
  const auto n = static_cast<uint32_t>(images.size(1) * images.size(2));
  const Key key = make_key(static_cast<uint64_t>(seed), shared ? Stream::kShuffledPixels : Stream::kRandomPixels);
  if (!shared) return launch<T, false>(out, images, rows, index, nullptr, key, stream);
  const Tensor held = torch::stable::new_empty(images, {n}, ScalarType::Int);
  auto* const table = static_cast<uint32_t*>(held.mutable_data_ptr());
  table_kernel<<<(n + kTableThreads - 1) / kTableThreads, kTableThreads, 0, stream>>>(table, key, n);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  launch<T, true>(out, images, rows, index, table, key, stream);
}

Tensor moved_pixels(const Tensor& given, const Tensor& given_rows, const Tensor& given_index, bool shared, int64_t seed,
                    ScalarType dtype) {
  STD_TORCH_CHECK(given.is_cuda() && given_rows.is_cuda() && given_index.is_cuda(), "all tensors must be on the GPU");
  STD_TORCH_CHECK(given.scalar_type() == ScalarType::Byte && given.dim() == 4 && given.size(3) == kChannels,
                  "images must be uint8 [M, H, W, 3]");
  for (const Tensor* one : {&given_rows, &given_index}) {
    STD_TORCH_CHECK(one->scalar_type() == ScalarType::Long && one->dim() == 1 && one->size(0) == given_rows.size(0),
                    "rows and index must be int64 [B]");
  }
  STD_TORCH_CHECK(dtype == ScalarType::BFloat16 || dtype == ScalarType::Float, "dtype must be bfloat16 or float32");
  STD_TORCH_CHECK(given.size(1) * given.size(2) <= (int64_t{1} << 30), "images of 2^30 pixels are the largest");
  STD_TORCH_CHECK(seed >= 0, "seed must be in [0, 2^63)");
  const torch::stable::accelerator::DeviceGuard guard(given.get_device_index());
  const Tensor images = torch::stable::contiguous(given), rows = torch::stable::contiguous(given_rows),
               index = torch::stable::contiguous(given_index);
  Tensor out = torch::stable::new_empty(images, {rows.size(0), images.size(1), images.size(2), kChannels}, dtype);
  if (out.numel() != 0) {
    (dtype == ScalarType::Float ? launch<float> : launch<BFloat16>)(out, images, rows, index, shared, seed);
  }
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(rethink_fast, m) {
  m.def("moved_pixels(Tensor images, Tensor rows, Tensor index, bool shared, int seed, ScalarType dtype) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(rethink_fast, CUDA, m) {
  m.impl("moved_pixels", TORCH_BOX(&moved_pixels));
}
