#pragma once
// Where the kernels' CUDA twins live: their source is also built for fibers of the CPU, beside
// them.

#ifdef KV_CUDA_SHIM
#define KV_CUDA_NAMESPACE kv::on_fibers
#else
#define KV_CUDA_NAMESPACE kv
#endif
