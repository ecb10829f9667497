#include <kv/container/reader.hh>

#include <cstdio>

int main(int, char** argv) {
  kv::Reader reader{kv::Input::open(argv[1])};
  int members = 0;
  while (reader.next_member()) ++members;
  std::printf("%d\n", members);
}
