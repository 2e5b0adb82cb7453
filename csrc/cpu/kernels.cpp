// The kernels for one instruction set: compiled once for each, with RF_ISA its name and the compiler's flags to match.
// Everything but the table has internal linkage, so that no two of them can be mistaken for one another.

#include "kernels.h"

#include "gaussian.h"
#include "partially_corrupted_labels.h"
#include "prepare.h"
#include "random_pixels.h"
#include "resize.h"

#define RF_TEXT_(x) #x
#define RF_TEXT(x) RF_TEXT_(x)

namespace rethink_fast {
namespace RF_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {RF_TEXT(RF_ISA), &corrupt_labels, &permute_range, &move_pixels, &gaussian, &prepare, &resize};

}  // namespace RF_ISA
}  // namespace rethink_fast
