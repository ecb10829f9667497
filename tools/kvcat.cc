// kvcat: cut and join KV caches.

#include "cat_tool.hh"

int main(int argc, char** argv) {
  return kv::tool_main<kv::CatOptions>(kv::kCatInfo, argc, argv, kv::declare_cat, kv::cat_body);
}
