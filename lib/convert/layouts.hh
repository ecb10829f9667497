#pragma once
// One function a layout. Private to the folder.

#include "kv/convert/layout.hh"

namespace kv {

Layout npy_layout();
Layout transformers_layout();
Layout llamacpp_layout();
Layout vllm_layout();
Layout hicache_layout();
Layout lmcache_layout();
Layout lmcache_gds_layout();
Layout vllm_tier_layout();

}  // namespace kv
