#include "vllm_pages.hh"

#include "kv/kernels/cpu_features.hh"
#include "transpose.hh"

namespace kv {
namespace {

// Of a layer, in bytes but for tokens, heads and block.
struct Sizes {
  Sizes(const LayoutCache& cache, std::size_t layer, std::size_t tokens_of_block)
      : block(tokens_of_block),
        heads(static_cast<std::size_t>(cache.layers[layer].geometry.kv_heads)),
        element(dtype_size_bytes(cache.dtype)),
        k(static_cast<std::size_t>(cache.layers[layer].geometry.k_dim) * element),
        v(static_cast<std::size_t>(cache.layers[layer].geometry.v_dim) * element) {}
  std::size_t c() const { return k + v; }
  std::size_t block, heads, element, k, v;  // k, v: a head's row
};

// Of a block and head, between the rows and the tensor.
Bytes& scratch_page(const Sizes& sizes) {
  thread_local Bytes page;
  page.resize(sizes.block * sizes.c());
  return page;
}

// Where AMX has the pairs of tokens i and i + 1 of 16 dimensions from j on: V is
// [dim / 16][block / 2][16][2]. K is [block / 16][dim / 2][16][2], pairs of dimensions, so that 16
// tokens are a transposed matrix of pairs.
std::size_t pair_at(const Sizes& sizes, std::size_t i, std::size_t j) {
  return sizes.block * sizes.k + (j / 16 * (sizes.block / 2) + i / 2) * 64;
}

// `keys` and `values` begin with the block's first row of the head.
void to_page(const Sizes& sizes, VllmBackend backend, const std::byte* keys,
             const std::byte* values, Bytes& page) {
  const std::size_t element = sizes.element;
  if (backend == VllmBackend::kAmx) {
    for (std::size_t i = 0; i < sizes.block; i += 16) {
      transpose(keys + i * sizes.heads * sizes.k, sizes.heads * sizes.k, 16, sizes.k / 4, 4,
                &page[i * sizes.k], 64);
    }
    for (std::size_t i = 0; i < sizes.block; i += 2) {
      for (std::size_t j = 0; j < sizes.v / 2; j += 16) {
        transpose(values + i * sizes.heads * sizes.v + j * 2, sizes.heads * sizes.v, 2, 16, 2,
                  &page[pair_at(sizes, i, j)], 4);
      }
    }
    return;
  }
  transpose(keys, sizes.heads * sizes.k, sizes.block, sizes.k / element, element, page.data(),
            sizes.block * element);
  for (std::size_t i = 0; i < sizes.block; ++i) {
    std::memcpy(&page[sizes.block * sizes.k + i * sizes.v], values + i * sizes.heads * sizes.v,
                sizes.v);
  }
}

void from_page(const Sizes& sizes, VllmBackend backend, const Bytes& page, std::byte* keys,
               std::byte* values) {
  const std::size_t element = sizes.element;
  if (backend == VllmBackend::kAmx) {
    for (std::size_t i = 0; i < sizes.block; i += 16) {
      transpose(&page[i * sizes.k], 64, sizes.k / 4, 16, 4, keys + i * sizes.heads * sizes.k,
                sizes.heads * sizes.k);
    }
    for (std::size_t i = 0; i < sizes.block; i += 2) {
      for (std::size_t j = 0; j < sizes.v / 2; j += 16) {
        transpose(&page[pair_at(sizes, i, j)], 4, 16, 2, 2,
                  values + i * sizes.heads * sizes.v + j * 2, sizes.heads * sizes.v);
      }
    }
    return;
  }
  transpose(page.data(), sizes.block * element, sizes.k / element, sizes.block, element, keys,
            sizes.heads * sizes.k);
  for (std::size_t i = 0; i < sizes.block; ++i) {
    std::memcpy(values + i * sizes.heads * sizes.v, &page[sizes.block * sizes.k + i * sizes.v],
                sizes.v);
  }
}

}  // namespace

std::string_view vllm_backend_name(VllmBackend backend) {
  switch (backend) {
    case VllmBackend::kHere:
      return "here";
    case VllmBackend::kCpu:
      return "cpu";
    case VllmBackend::kAmx:
      return "amx";
    case VllmBackend::kGpu:
      return "gpu";
  }
  return "";
}

VllmBackend vllm_backend(const LayoutCache& cache, std::int64_t block, bool amx) {
  bool tiles = amx && cache.dtype == DType::kBF16 && block % 32 == 0;
  for (const LayerMeta& layer : cache.layers) {
    tiles = tiles && layer.geometry.k_dim % 32 == 0 && layer.geometry.v_dim % 32 == 0;
  }
  return tiles ? VllmBackend::kAmx : VllmBackend::kCpu;
}

VllmPages::VllmPages(const LayoutCache& cache, std::int64_t block, VllmBackend backend)
    : cache_(cache),
      block_(static_cast<std::size_t>(block)),
      backend_(backend == VllmBackend::kHere ? vllm_backend(cache, block, cpu_has_amx_bf16())
                                             : backend) {
  if (backend_ == VllmBackend::kAmx && vllm_backend(cache, block, true) != VllmBackend::kAmx) {
    fail_usage("--backend amx: bf16, blocks and dimensions of multiples of 32");
  }
}

std::vector<std::int64_t> VllmPages::shape(std::size_t layer) const {
  const LayerGeometry& geometry = cache_.layers[layer].geometry;
  return {cache_.token_count, geometry.kv_heads, geometry.k_dim + geometry.v_dim};
}

void VllmPages::put(std::size_t layer, ByteView keys, ByteView values, std::size_t first,
                    std::span<std::byte> part) const {
  const Sizes sizes(cache_, layer, block_);
  const std::size_t rows = part.size() / sizes.c();
  const std::byte* key = keys.data() + first * sizes.heads * sizes.k;
  const std::byte* value = values.data() + first * sizes.heads * sizes.v;
  if (backend_ == VllmBackend::kGpu) {
    for (std::size_t row = 0; row < rows; ++row) {
      std::memcpy(&part[row * sizes.c()], key + row * sizes.k, sizes.k);
      std::memcpy(&part[row * sizes.c() + sizes.k], value + row * sizes.v, sizes.v);
    }
    return;
  }
  Bytes& page = scratch_page(sizes);
  for (std::size_t begin = 0; begin < rows; begin += block_ * sizes.heads) {
    for (std::size_t row = begin; row < begin + sizes.heads; ++row) {
      to_page(sizes, backend_, key + row * sizes.k, value + row * sizes.v, page);
      for (std::size_t i = 0; i < block_; ++i) {
        std::memcpy(&part[(row + i * sizes.heads) * sizes.c()], &page[i * sizes.c()], sizes.c());
      }
    }
  }
}

void VllmPages::take(std::size_t layer, ByteView tensor, std::span<std::byte> keys,
                     std::span<std::byte> values) const {
  const Sizes sizes(cache_, layer, block_);
  const std::size_t rows = tensor.size() / sizes.c();
  if (backend_ == VllmBackend::kGpu) {
    for (std::size_t row = 0; row < rows; ++row) {
      std::memcpy(&keys[row * sizes.k], &tensor[row * sizes.c()], sizes.k);
      std::memcpy(&values[row * sizes.v], &tensor[row * sizes.c() + sizes.k], sizes.v);
    }
    return;
  }
  Bytes& page = scratch_page(sizes);
  for (std::size_t begin = 0; begin < rows; begin += block_ * sizes.heads) {
    for (std::size_t row = begin; row < begin + sizes.heads; ++row) {
      for (std::size_t i = 0; i < block_; ++i) {
        std::memcpy(&page[i * sizes.c()], &tensor[(row + i * sizes.heads) * sizes.c()], sizes.c());
      }
      from_page(sizes, backend_, page, &keys[row * sizes.k], &values[row * sizes.v]);
    }
  }
}

}  // namespace kv
