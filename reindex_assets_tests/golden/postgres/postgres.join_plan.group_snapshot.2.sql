SELECT
    set_config('work_mem', '64MB', true) AS work_mem,
    set_config('enable_nestloop', 'off', true) AS enable_nestloop,
    set_config('enable_mergejoin', 'off', true) AS enable_mergejoin
