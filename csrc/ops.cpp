// Every op's schema, and nothing else. rethink_fast/kernels/__init__.py holds the same text for when this library is
// absent, and a test compares the two.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rethink_fast, m) {
  m.def("corrupt_labels(Tensor labels, Tensor index, int num_classes, float probability, int seed) -> Tensor");
  m.def("shuffled_pixels(Tensor images, int seed) -> Tensor");
  m.def("random_pixels(Tensor images, Tensor index, int seed) -> Tensor");
  m.def("gaussian(Tensor index, int height, int width, Tensor mean, Tensor std, int seed) -> Tensor");
  m.def("order(int seed, int epoch, int n, int start, int stop) -> Tensor");
  m.def(
      "prepare(Tensor images, Tensor rows, Tensor index, int[] window, str corruption, int seed, Tensor? mean, "
      "Tensor? std, int[] size, bool crop, bool flip, bool rotation, Tensor? epoch, str normalisation, "
      "ScalarType dtype) -> Tensor");
  m.def("resize(Tensor[] images, Tensor(a!) out) -> ()");
}
