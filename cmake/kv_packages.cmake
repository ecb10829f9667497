# The libraries that ours link: for the build, and for those who find_package(kvtools).
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
foreach(module zstd=libzstd xxhash=libxxhash pcre2=libpcre2-8 sentencepiece=sentencepiece
               utf8proc=libutf8proc hwy=libhwy sodium=libsodium crypto=libcrypto)
  string(REPLACE "=" ";" module ${module})
  list(POP_FRONT module name)
  if(NOT TARGET PkgConfig::${name})
    pkg_check_modules(${name} QUIET REQUIRED IMPORTED_TARGET ${module})
  endif()
endforeach()
