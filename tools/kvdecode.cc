// kvdecode: coded KV caches back to raw ones.

#include "decode_tool.hh"

int main(int argc, char** argv) {
  return kv::tool_main<kv::DecodeOptions>(kv::kDecodeInfo, argc, argv, kv::declare_decode,
                                          kv::decode_body);
}
