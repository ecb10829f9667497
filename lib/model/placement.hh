#pragma once
// Where a model computes, and in which type, from what the user asked for.

#include "kv/model/model.hh"

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace kv {

// Throws kDevice when CUDA is asked for and not there.
at::Device choose_device(Device wanted);
at::ScalarType choose_type(Compute wanted, at::Device device);

// Sets up the process's pool for so many threads; 0: as many as there are cores. Throws kUsage for
// fewer.
void use_threads(int threads);

}  // namespace kv
