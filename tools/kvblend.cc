// kvblend: fuse KV caches of texts that were prefilled alone.

#include "blend_tool.hh"

int main(int argc, char** argv) {
  return kv::tool_main<kv::BlendOptions>(kv::kBlendInfo, argc, argv, kv::declare_blend,
                                         kv::blend_body);
}
