#pragma once
// A function a target; private to the folder. See int8_dot_targets.hh.

#include "epilogue.hh"

namespace kv {

void check(const Reconstruction& job);  // throws what reconstruct() throws

EpilogueTarget reconstruct_scalar(const Reconstruction& job);
EpilogueTarget reconstruct_avx2(const Reconstruction& job);
EpilogueTarget reconstruct_avx512(const Reconstruction& job);

}  // namespace kv
