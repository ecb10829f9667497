kv_test(eval LIBS kv_eval)
kv_test(eval_report LIBS kv_eval)
kv_fuzz(eval LIBS kv_eval)
