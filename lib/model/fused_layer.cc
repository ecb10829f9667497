#include "kv/model/attention.hh"
#include "kv/model/block_products.hh"
#include "kv/model/layer.hh"
#include "kv/model/parallel.hh"
#include "kv/model/row_ops.hh"

#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>

#include <type_traits>
#include <vector>

namespace kv {
namespace {

constexpr std::int64_t kRowGrain = 16;

// The rows of one layer call and what they become on the way.
template <typename T>
class Fused {
 public:
  Fused(const LayerCall& call, std::int64_t rows)
      : call_(call),
        geometry_(call.weights.geometry),
        rows_(rows),
        query_heads_(call.config.query_heads),
        query_width_(query_heads_ * geometry_.k_dim),
        key_width_(geometry_.kv_heads * geometry_.k_dim),
        value_width_(geometry_.kv_heads * geometry_.v_dim),
        options_(at::TensorOptions(c10::CppTypeToScalarType<T>::value)) {}

  // Keys and values to the cache; returns [rows][query | key | value].
  at::Tensor project(const at::Tensor& hidden) {
    at::Tensor qkv;
    if constexpr (kIsBf16) {
      if (call_.weights.by_kernels) {
        qkv = at::empty({rows_, query_width_ + key_width_ + value_width_}, options_);
        project_rows(call_.weights, call_.config.rms_epsilon, hidden.const_data_ptr<float>(), rows_,
                     qkv.mutable_data_ptr<T>());
      }
    }
    if (!qkv.defined()) {
      qkv = call_.weights.qkv(
          fused_norm<T>(hidden, call_.weights.input_norm, call_.config.rms_epsilon));
    }
    if (call_.config.qk_norm) norm_keys(qkv);
    const auto heads = [&](std::int64_t from, std::int64_t dim) {
      return qkv.narrow(1, from, geometry_.kv_heads * dim).unflatten(1, {geometry_.kv_heads, dim});
    };
    call_.cache.store_keys(call_.layer, call_.slots, heads(query_width_, geometry_.k_dim));
    call_.cache.store_values(call_.layer, call_.slots,
                             heads(query_width_ + key_width_, geometry_.v_dim));
    return qkv;
  }

  at::Tensor attend(const at::Tensor& qkv) {
    const at::Tensor queries = rotated_queries(qkv);
    std::vector<std::int32_t> positions;
    for (const std::int64_t slot : call_.slots) {
      positions.push_back(call_.cache.positions[static_cast<std::size_t>(slot)]);
    }
    const at::Tensor out = attended(queries, positions);
    if (measures()) {
      const at::Tensor index = call_.importance->index();
      call_.importance->add_fused<T>(call_.layer, queries.index_select(1, index),
                                     out.index_select(0, index));
    }
    return out;
  }

  // Of rows that do not attend, for no other end.
  void measure(const at::Tensor& qkv) {
    if (!measures()) return;
    const at::Tensor queries = rotated_queries(qkv).index_select(1, call_.importance->index());
    call_.importance->add_fused<T>(call_.layer, queries,
                                   attended(queries, call_.importance->positions()));
  }

  // Adds what attention gave to the rows, projected, then the MLP's share.
  void finish(const at::Tensor& raw, at::Tensor& hidden) {
    if constexpr (kIsBf16) {
      if (call_.weights.by_kernels) {
        finish_rows(call_.weights, call_.config.rms_epsilon, raw.const_data_ptr<T>(), rows_,
                    hidden.mutable_data_ptr<float>());
        return;
      }
    }
    const RowOps<T>& ops = row_ops<T>();
    const std::int64_t width = hidden.size(1), inner = call_.config.intermediate;
    float* sum = hidden.mutable_data_ptr<float>();
    const auto add = [&](const Linear& linear, const at::Tensor& rows, const at::Tensor& norm) {
      if (norm.defined()) {
        const at::Tensor out = linear.to_f32(rows);
        each_row([&](std::int64_t i) {
          ops.add_normed(out.const_data_ptr<float>() + i * width, norm.const_data_ptr<float>(),
                         call_.config.rms_epsilon, width, sum + i * width);
        });
        return;
      }
      if (linear.add_f32(rows, hidden)) return;
      const at::Tensor out = linear(rows);
      each_row([&](std::int64_t i) {
        ops.add(out.const_data_ptr<T>() + i * width, width, sum + i * width);
      });
    };
    add(call_.weights.output, raw, call_.weights.attention_post_norm);
    const at::Tensor normed = at::empty({rows_, width}, options_);
    const float* weight = call_.weights.mlp_norm.const_data_ptr<float>();
    each_row([&](std::int64_t i) {
      ops.rms_norm(sum + i * width, weight, call_.config.rms_epsilon, width,
                   normed.mutable_data_ptr<T>() + i * width);
    });
    const at::Tensor gate_up = call_.weights.gate_up(normed);
    const at::Tensor act = at::empty({rows_, inner}, options_);
    const bool gelu = call_.weights.activation == Activation::kGeluTanh;
    const auto gate_mul = gelu ? ops.gelu_mul : ops.silu_mul;
    each_row([&](std::int64_t i) {
      const T* gate = gate_up.const_data_ptr<T>() + i * 2 * inner;
      gate_mul(gate, gate + inner, inner, act.mutable_data_ptr<T>() + i * inner);
    });
    add(call_.weights.down, act, call_.weights.mlp_post_norm);
  }

 private:
  static constexpr bool kIsBf16 = std::is_same_v<T, c10::BFloat16>;

  bool measures() const { return call_.importance != nullptr && !call_.importance->rows().empty(); }

  at::Tensor attended(const at::Tensor& queries, std::span<const std::int32_t> positions) const {
    const auto rows = static_cast<std::int64_t>(positions.size());
    const at::Tensor out = at::empty({rows, query_heads_ * geometry_.v_dim}, options_);
    kv::attend<T>(call_.cache, call_.layer, queries.const_data_ptr<T>(),
                  query_heads_ / geometry_.kv_heads, call_.config.score_scalar(geometry_),
                  positions, out.mutable_data_ptr<T>());
    return out;
  }

  template <typename F>
  void each_row(const F& body) const {
    parallel_ranges(rows_, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) body(i);
    });
  }

  void norm_keys(const at::Tensor& qkv) const {
    T* base = qkv.mutable_data_ptr<T>();
    const float* weight = call_.weights.key_norm.const_data_ptr<float>();
    each_row([&](std::int64_t i) {
      T* row = base + i * qkv.size(1) + query_width_;
      for (std::int64_t head = 0; head < geometry_.kv_heads; ++head, row += geometry_.k_dim) {
        row_ops<T>().head_norm(row, weight, call_.config.rms_epsilon, geometry_.k_dim, row);
      }
    });
  }

  // [kv heads][rows][group][k_dim], so that a group's queries are one matrix.
  at::Tensor rotated_queries(const at::Tensor& qkv) const {
    const RowOps<T>& ops = row_ops<T>();
    const std::int64_t dim = geometry_.k_dim, half = dim / 2;
    const std::int64_t group = query_heads_ / geometry_.kv_heads;
    const at::Tensor queries = at::empty({geometry_.kv_heads, rows_, group, dim}, options_);
    const RopeRows& rope = call_.cache.rope_of(call_.layer);
    const float *cos = rope.cos.const_data_ptr<float>(), *sin = rope.sin.const_data_ptr<float>();
    const float* norm =
        call_.config.qk_norm ? call_.weights.query_norm.const_data_ptr<float>() : nullptr;
    const T* base = qkv.const_data_ptr<T>();
    T* out = queries.mutable_data_ptr<T>();
    each_row([&](std::int64_t i) {
      thread_local std::vector<T> normed;
      normed.resize(static_cast<std::size_t>(dim));
      const std::int64_t angle = call_.slots[static_cast<std::size_t>(i)] * half;
      for (std::int64_t head = 0; head < query_heads_; ++head) {
        const T* row = base + i * qkv.size(1) + head * dim;
        if (norm != nullptr) {
          ops.head_norm(row, norm, call_.config.rms_epsilon, dim, normed.data());
          row = normed.data();
        }
        ops.rotate(row, cos + angle, sin + angle, half,
                   out + ((head / group * rows_ + i) * group + head % group) * dim);
      }
    });
    return queries;
  }

  const LayerCall& call_;
  const LayerGeometry& geometry_;
  std::int64_t rows_, query_heads_, query_width_, key_width_, value_width_;
  at::TensorOptions options_;
};

}  // namespace

template <typename T>
at::Tensor fused_norm(const at::Tensor& hidden, const at::Tensor& weight, double epsilon) {
  const std::int64_t width = hidden.size(1);
  at::Tensor out = at::empty(hidden.sizes(), at::TensorOptions(c10::CppTypeToScalarType<T>::value));
  const float* in = hidden.const_data_ptr<float>();
  T* to = out.mutable_data_ptr<T>();
  parallel_ranges(hidden.size(0), kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      row_ops<T>().rms_norm(in + i * width, weight.const_data_ptr<float>(), epsilon, width,
                            to + i * width);
    }
  });
  return out;
}

template <typename T>
void fused_layer(const LayerCall& call, at::Tensor& hidden) {
  Fused<T> rows(call, hidden.size(0));
  const at::Tensor qkv = rows.project(hidden);
  rows.finish(rows.attend(qkv), hidden);
}

template <typename T>
void fused_keys_values(const LayerCall& call, const at::Tensor& hidden) {
  Fused<T> rows(call, hidden.size(0));
  rows.measure(rows.project(hidden));
}

template void fused_layer<float>(const LayerCall&, at::Tensor&);
template void fused_layer<c10::BFloat16>(const LayerCall&, at::Tensor&);
template void fused_keys_values<float>(const LayerCall&, const at::Tensor&);
template void fused_keys_values<c10::BFloat16>(const LayerCall&, const at::Tensor&);
template at::Tensor fused_norm<float>(const at::Tensor&, const at::Tensor&, double);
template at::Tensor fused_norm<c10::BFloat16>(const at::Tensor&, const at::Tensor&, double);

}  // namespace kv
