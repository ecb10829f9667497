#include <kv/session/session.hh>

#include <algorithm>
#include <cstdio>

int main(int, char** argv) {
  const kv::Session session = kv::Session::open(argv[1], {});
  const auto ids = session.tokenizer->encode(argv[2]);
  kv::KvCache cache = session.model->make_cache({.capacity = 64});
  const auto logits = session.model->forward(ids, cache).logits;
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::puts(session.tokenizer->decode(std::vector{kv::TokenId(best)}).c_str());
}
