#pragma once
// What the processor and the operating system allow. x86-64 only; false elsewhere.

namespace kv {

bool cpu_has_avx2();          // with F16C
bool cpu_has_avx2_group();    // with the above, AES, BMI 1 and 2, FMA, LZCNT, PCLMUL, POPCNT
bool cpu_has_avx_vnni();      // with AVX2
bool cpu_has_avx512();        // F, BW, DQ, VL, with AVX2
bool cpu_has_avx512_vbmi2();  // VBMI and VBMI2, with the AVX2 group and AVX-512
bool cpu_has_avx512_vnni();   // with AVX-512
bool cpu_has_avx512_bf16();   // with AVX-512
// Both with the AVX-512 extension of their type; they ask Linux for permission, for the whole
// process.
bool cpu_has_amx_int8();
bool cpu_has_amx_bf16();

}  // namespace kv
