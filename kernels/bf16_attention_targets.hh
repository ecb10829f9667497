#pragma once
// Private to the folder; as bf16_product_targets.hh.

#include "bf16_attention.hh"

namespace kv {

void attention_amx(const Bf16Attention& block);

}  // namespace kv
