kv_test(codec LIBS kv_codec)
kv_fuzz(planes LIBS kv_codec)
