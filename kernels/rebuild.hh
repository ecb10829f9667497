#pragma once
// int8_dot.hh and epilogue.hh in one pass: a decoder's sums become values while they are in the
// first-level cache.

#include "epilogue.hh"
#include "int8_dot.hh"

namespace kv {

// reconstruct() of sums that are not in memory: r is that of the first product, and p, where there
// is a second, that one's. `job` has no r then, and no p where there are two; its outputs and
// tokens are those of the products. Throws what int8_dot_blocks() and reconstruct() throw.
void reconstruct(std::span<const DotProduct> products, const Reconstruction& job);

}  // namespace kv
