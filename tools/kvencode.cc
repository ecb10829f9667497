// kvencode: compress KV caches.

#include "encode_tool.hh"

int main(int argc, char** argv) {
  return kv::tool_main<kv::EncodeOptions>(kv::kEncodeInfo, argc, argv, kv::declare_encode,
                                          kv::encode_body);
}
