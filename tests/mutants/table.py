"""The mistakes that mutate.py plants: (file, old text, new text, the small test that should notice).

The old text stands in its file exactly once. The test is one program with a filter:
    opcheck --op NAME [--candidate NAME]    every case of an op on plain C against float64; opcheck grad --op NAME: its gradient rule
    opencl ...                              the same on the first OpenCL device, which reads the changed text at run time
    unit NAME                               tests/unit/test_NAME
    model [CASE]                            parity with PyTorch's files on plain C, or one group of its tests
    cli NAME [ARGUMENT]                     tests/cli/NAME.sh
"""

KERNELS = [
    # Element by element
    ("cl/activation.cl", "dsrc[i] = ddst[i] * f_madd(src[i], density, below);", "dsrc[i] = ddst[i] * below;", "opcheck --op gelu_backward"),
    ("cl/special.h", "return s * f_madd(x * s, e, 1.0f);", "return s * f_madd(x, e, 1.0f);", "opcheck --op silu_backward"),
    ("cl/special.h", "return x < 0.0f ? tail : 1.0f - tail;", "return 1.0f - tail;", "opcheck --op gelu"),
    ("cl/elementwise.cl", "dsrc[i] = result[i] <= 0.0f ? 0.0f : d;", "dsrc[i] = result[i] < 0.0f ? 0.0f : d;", "opcheck --op relu_backward"),
    ("cl/elementwise.cl", "const float a = table[2 * row], b = table[2 * row + 1];", "const float b = table[2 * row], a = table[2 * row + 1];", "opcheck --op noise"),
    ("cl/elementwise.cl", "i_max(0, i_min(t[n], arg.steps - 1))", "i_max(0, i_min(t[n], arg.steps))", "opcheck --op noise"),
    ("cl/elementwise.cl", "const float next = c * x0 + d * xt + e * noise + s * z[i];", "const float next = c * x0 + d * xt + s * z[i];", "opcheck --op sample_step"),
    ("cl/elementwise.cl", "f_exp(level + slope * v[i])", "f_exp(level - slope * v[i])", "opcheck --op sample_step"),
    ("cl/elementwise.cl", "dpred[i] = 2.0f * (pred[i] - target[i]) * g;", "dpred[i] = (pred[i] - target[i]) * g;", "opcheck --op loss_backward"),
    ("cl/elementwise.cl", "(d > limit ? limit : d < -limit ? -limit : d) * g", "(d > limit ? limit : d < -limit ? limit : d) * g", "opcheck --op loss_backward"),
    ("cl/elementwise.cl", "to[c] += from[c];", "to[c] = from[c];", "opcheck --op embed_backward"),
    ("cl/elementwise.cl", "bias + n * arg.channels + c0", "bias + c0", "opcheck --op add_channel"),
    ("cl/elementwise.cl", "arg.src_channels + arg.src_first + c0", "arg.src_channels + c0", "opcheck --op slice"),
    ("cl/resample.cl", "from[down + across + c]", "from[down + c]", "opcheck --op pool2"),
    # Statistics
    ("cl/norm.cl", "square[c] / (float)arg.rows;", "square[c] / ((float)arg.rows - 1.0f);", "opcheck --op batch_norm"),
    ("cl/norm.cl", "rstd[c] = 1.0f / f_sqrt(var + arg.eps);", "rstd[c] = 1.0f / (f_sqrt(var) + arg.eps);", "opcheck --op batch_norm"),
    ("cl/norm.cl", "arg.fresh * (var * arg.unbias)", "arg.fresh * var", "opcheck --op batch_norm"),
    ("cl/norm.cl", "slope = cross[c] * rstd[c0 + c];", "slope = cross[c];", "opcheck --op batch_norm_backward"),
    ("cl/norm.cl", "scale[c] * dy[c] - (level[c] + slope[c] * (at - centre[c]))", "scale[c] * dy[c] - level[c]", "opcheck --op batch_norm_backward"),
    ("cl/norm.cl", "relu && at <= 0.0f ? 0.0f : d", "relu && at < 0.0f ? 0.0f : d", "opcheck --op batch_norm_backward"),
    ("cl/norm_stats.h", "square[c] += m2[c] + d * d * n[c];", "square[c] += m2[c];", "opcheck --op batch_norm"),
    ("cl/norm_stats.h", "square[c] - sum[c] * sum[c] * inverse, square[c] * 0.0f", "square[c], square[c] * 0.0f", "opcheck --op batch_norm"),
    ("cl/group_norm.cl", "f_sqrt(square / ((float)arg.rows * (float)arg.size) + arg.eps)", "(f_sqrt(square / ((float)arg.rows * (float)arg.size)) + arg.eps)", "opcheck --op group_norm"),
    ("cl/group_norm.cl", "const float more = 1.0f + emb[c];", "const float more = emb[c];", "opcheck --op group_norm"),
    ("cl/group_norm.cl", "slope = slope * scale * scale / values;", "slope = slope * scale / values;", "opcheck --op group_norm_backward"),
    ("cl/group_norm.cl", "alone += more * own[arg.columns + c];", "alone += own[arg.columns + c];", "opcheck --op group_norm_backward"),
    # Sums, random numbers, the update
    ("cl/reduce.cl", "delta * (size - 0.5f * delta)", "delta * (size - delta)", "opcheck --op loss"),
    ("cl/reduce.cl", "for (int r = 4 * quarter; r < rows; r++)", "for (int r = 4 * quarter + 1; r < rows; r++)", "opcheck --op channel_sum"),
    ("cl/random.cl", "round < 10", "round < 9", "opcheck --op randint"),
    ("cl/random.cl", "*sine = quarter & 2 ? -b : b;", "*sine = quarter & 1 ? -b : b;", "opcheck --op randn"),
    ("cl/random.cl", "p = p * f - 0x1.555c4ep-3f;", "p = p * f - 0x1.555d4ep-3f;", "opcheck --op randn"),
    ("cl/optimizer.cl", "arg.beta1 * m[i] + arg.rest1 * g", "arg.beta2 * m[i] + arg.rest2 * g", "opcheck --op adam"),
    ("cl/optimizer.cl", "(f_sqrt(square) / root + arg.eps)", "(f_sqrt(square) + arg.eps)", "opcheck --op adam"),
    ("cl/optimizer.cl", "(f_sqrt(square) / root + arg.eps)", "(f_sqrt(square + arg.eps) / root)", "opcheck --op adam"),
    ("cl/optimizer.cl", "pull = arg.decoupled ? 0.0f : arg.weight_decay;", "pull = arg.weight_decay;", "opcheck --op adam"),
    ("cl/update.cl", "average[i] += weight * (param[i] - average[i])", "average[i] = weight * average[i] + (1.0f - weight) * param[i]", "opcheck --op ema"),
    ("cl/update.cl", "scale[item] = ratio < 1.0f ? ratio : 1.0f;", "scale[item] = ratio;", "opcheck --op clip_norm"),
    # Objectives
    ("cl/objective.cl", "p.y = row[4] * (0.5f * v + 0.5f);", "p.y = row[4] * v;", "opcheck --op variational"),
    ("cl/objective.cl", "    const float g = deach[n] * arg.scale * (0.5f * row[4]);", "    const float g = deach[n] * arg.scale * row[4];", "opcheck --op variational_backward"),
    ("cl/objective.cl", "*slope = da - db;", "*slope = da + db;", "opcheck --op variational_backward"),
    ("cl/objective.cl", "without + s * (with - without)", "with + s * (with - without)", "opcheck --op guide"),
    ("cl/objective.cl", "partial[item] = arg.weighted ? sum * weight[n] : sum;", "partial[item] = sum;", "opcheck --op loss_each"),
    # Attention
    ("cl/attention.cl", "sum = sum * f_exp(top - s) + 1.0f;", "sum = sum + 1.0f;", "opcheck --op attention --candidate direct"),
    ("cl/attention.cl", "const float g = p * (attention_dot(d, v, arg.width) - mean);", "const float g = p * attention_dot(d, v, arg.width);", "opcheck --op attention_backward --candidate direct"),
    ("cl/cpu/attention.cl", "sum[c] *= fade[c];", "", "opcheck --op attention --candidate panel"),
    ("cl/gpu/attention.cl", "f_exp(s[j] * arg.scale - all) * (d[j] - mean)", "f_exp(s[j] * arg.scale - all) * d[j]", "opencl --as-gpu --op attention_backward --candidate tile"),
    # Convolutions
    ("cl/conv2d_direct.cl", "if (x < 0 || x >= arg.src_w)", "if (x < 0 || x > arg.src_w)", "opcheck --op conv2d --candidate direct"),
    ("cl/conv2d_direct.cl", "const int y = oy * arg.stride_h - arg.pad_h + r;", "const int y = oy * arg.stride_w - arg.pad_h + r;", "opcheck --op conv2d_wgrad --candidate direct"),
    ("cl/im2col.cl", "to[c] += bias[c0 + c];", "to[c] += bias[c];", "opencl --op conv2d --candidate im2col_gemm"),
    ("cl/cpu/conv2d.cl", "zeros[c] = 0.0f;", "zeros[c] = 1e-3f;", "opcheck --op conv2d --candidate panel"),
    ("cl/winograd_transform.h", "lane_madd(lane_splat(1.0f / 24.0f), g0, lane_mul(lane_splat(1.0f / 6.0f), g2))", "lane_madd(lane_splat(1.0f / 24.0f), g0, lane_mul(lane_splat(1.0f / 12.0f), g2))", "opcheck --op conv2d --candidate winograd_4x4"),
    ("cl/cpu/winograd_gather.h", ": -arg.pad_w;", ": -arg.pad_h;", "opcheck --op conv2d --candidate winograd_2x2"),
    ("cl/gpu/conv2d.cl", "            const int inside = d < depth && channel < arg.dst_c;\n            const long at =", "            const int inside = channel < arg.dst_c;\n            const long at =", "opencl --as-gpu --op conv2d --candidate tile"),
]

GRADIENTS = [
    ("src/op/conv2d.c", "    const lun_op *op = b->op;\n    const lun_value ddst = before_relu(b);", "    const lun_op *op = b->op;\n    const lun_value ddst = b->ddst[0];", "opcheck grad --op conv2d"),
    ("src/op/conv2d.c", "give_wgrad(b, ddst, b->src[0]);", "give_wgrad(b, b->src[0], ddst);", "opcheck grad --op conv2d_transpose"),
    ("src/op/batch_norm.c", "b->src[1], b->dst[1], b->dst[2]}", "b->src[1], b->dst[2], b->dst[1]}", "opcheck grad --op batch_norm"),
    ("src/op/group_norm.c", "src, nsrc > 3 ? 7 : 6)", "src, 6)", "opcheck grad --op group_norm"),
    ("src/op/concat.c", "        first += attrs.slice.count;\n", "", "opcheck grad --op concat"),
    ("src/op/add.c", "for (int i = 0; i < 2; i++)", "for (int i = 0; i < 1; i++)", "opcheck grad --op add"),
    ("src/op/attention.c", "{b->src[0], b->dst[0], b->ddst[0], b->dst[1]}", "{b->src[0], b->ddst[0], b->dst[0], b->dst[1]}", "opcheck grad --op attention"),
    ("src/op/resample.c", "LUN_OP_UPSAMPLE2, &b->op->attrs", "LUN_OP_UPSAMPLE2, NULL", "opcheck grad --op pool2"),
    ("src/op/objective.c", "&b->op->attrs, src, weighted ? 4 : 3)", "&b->op->attrs, src, 3)", "opcheck grad --op loss_each"),
    ("src/op/dropout.c", "LUN_OP_DROPOUT, &b->op->attrs, src, 2", "LUN_OP_DROPOUT, NULL, src, 2", "opcheck grad --op dropout"),
    ("src/graph/backward.c", "*sum = *sum < 0 ? gradient : lun_graph_record(graph, LUN_OP_ADD, NULL, (lun_value[]){*sum, gradient}, 2);", "*sum = gradient;", "unit graph"),
    ("src/graph/backward.c", "t->root != gradient || t->grad_of >= 0)", "t->root != gradient)", "unit graph"),
]

LOWERINGS = [
    ("src/lower/objective.c", "lun_emit_sum(out, caps, partial, s.n, cut.pieces, 1, (float)(1.0 / (double)(pixels * used)), 0);", "lun_emit_sum(out, caps, partial, s.n, cut.pieces, 1, (float)(1.0 / (double)(pixels * s.c)), 0);", "opcheck --op loss_each"),
    ("src/lower/norm.c", ".kept = (float)(1.0 - (double)a->momentum)", ".kept = a->momentum", "opcheck --op batch_norm"),
    ("src/lower/norm.c", "(float)(1.0 / (double)rows) : 0.0f", "(float)(1.0 / (double)(rows / groups)) : 0.0f", "opcheck --op batch_norm_backward"),
    ("src/lower/attention.c", ".scale = (float)(1 / sqrt((double)width))", ".scale = (float)(1 / sqrt((double)channels))", "opcheck --op attention"),
    ("src/lower/optimizer.c", ".rest2 = (float)(1 - a->beta2)", ".rest2 = (float)(1 - a->beta1)", "opcheck --op adam"),
    ("src/lower/reduce.c", "lun_emit_sum(out, caps, partial, 1, items, 1, (float)(1.0 / (double)count), 0);", "lun_emit_sum(out, caps, partial, 1, items, 1, 1.0f, 0);", "opcheck --op loss"),
    ("src/lower/lower.c", "cut.pieces = cut.blocks * lun_ceil_div(rows, cut.rows);", "cut.pieces = cut.blocks * (rows / cut.rows);", "opcheck --op guide"),
]

DIFFUSION = [
    # Schedules
    ("src/diffusion/schedule.c", "table[2 * i] = (float)sqrt(schedule->abar[i]);", "table[2 * i] = (float)schedule->abar[i];", "unit schedule"),
    ("src/diffusion/schedule.c", "beta * (1 - before) / (1 - abar);", "beta * (1 - before);", "unit schedule"),
    ("src/diffusion/schedule.c", "first + (last - first) * i / (steps - 1)", "first + (last - first) * i / steps", "unit schedule"),
    ("src/diffusion/schedule.c", "(u + 0.008) / 1.008", "u", "unit diffusion"),
    ("src/diffusion/schedule.c", "fmin(1 - shape((double)(i + 1) / steps) / shape((double)i / steps), MOST_BETA)", "(1 - shape((double)(i + 1) / steps) / shape((double)i / steps))", "unit diffusion"),
    ("src/diffusion/schedule.c", "table[2 * i + 1] = -table[2 * i + 1];", "table[2 * i + 1] = table[2 * i + 1];", "unit diffusion"),
    ("src/diffusion/schedule.c", "LUN_PREDICTION_X0 ? 1 : snr + 1", "LUN_PREDICTION_X0 ? 1 : snr", "unit diffusion"),
    ("src/diffusion/schedule.c", "(lun_reading){signal, -noise, noise, signal}", "(lun_reading){signal, noise, noise, signal}", "unit diffusion"),
    ("src/diffusion/schedule.c", "first * 1000 / steps, last * 1000 / steps", "first, last", "unit diffusion"),
    ("src/diffusion/respace.c", "(double)(size - 1) / (count - 1)", "(double)size / count", "unit diffusion"),
    ("src/diffusion/respace.c", "s.timestep[i] = full->timestep[kept[i]];", "s.timestep[i] = i;", "unit diffusion"),
    ("src/diffusion/respace.c", "1 - full->abar[kept[i]] / before", "full->beta[kept[i]]", "unit diffusion"),
    # Samplers
    ("src/diffusion/ancestral.c", "if (i == 0)\n            continue;", "if (i < 0)\n            continue;", "unit diffusion"),
    ("src/diffusion/ancestral.c", "low / 2 + range / 4", "low / 2", "unit diffusion"),
    ("src/diffusion/ancestral.c", "e = -beta / (sqrt(1 - abar) * sqrt(1 - beta));", "e = beta / (sqrt(1 - abar) * sqrt(1 - beta));", "unit schedule"),
    ("src/diffusion/ancestral.c", "const int i = s->steps - 1 - k;", "const int i = k;", "unit diffusion"),
    ("src/diffusion/ddim.c", "end - noise * sqrt(abar / (1 - abar))", "end + noise * sqrt(abar / (1 - abar))", "unit diffusion"),
    ("src/diffusion/ddim.c", "fmax(1 - before - sigma * sigma, 0)", "fmax(1 - before, 0)", "unit diffusion"),
    ("src/diffusion/dpm_solver.c", "-ends * half);", "ends * half);", "model samplers"),
    ("src/diffusion/dpm_solver.c", "0.5 * h / (lambda(s->abar[i]) - lambda(s->abar[i + 1]))", "h / (lambda(s->abar[i]) - lambda(s->abar[i + 1]))", "model samplers"),
    ("src/diffusion/heun.c", "const double share = (1 - 1 / r) / 2;", "const double share = 1 - 1 / r;", "model samplers"),
    ("src/diffusion/heun.c", "#define RHO 7", "#define RHO 5", "model samplers"),
    ("src/diffusion/sampler.c", "memcpy(s->images + count, s->images, count * sizeof *images);", "memset(s->images + count, 0, count * sizeof *images);", "model samplers"),
    ("src/diffusion/sampler.c", "fill_rows(s, run->seeds, (uint32_t)move->left + 1, s->rows_count);", "fill_rows(s, run->seeds, 0, s->rows_count);", "model samplers"),
    # Objectives
    ("src/diffusion/objective.c", "lun_noise(graph, eps, x0, t,", "lun_noise(graph, x0, eps, t,", "model"),
    ("src/diffusion/objective.c", "case LUN_PREDICTION_X0: return x0;", "case LUN_PREDICTION_X0: return eps;", "unit family"),
    ("src/diffusion/objective.c", "lun_loss_each(graph, pred, wanted, by_t, o->loss, o->huber_delta)", "lun_loss_each(graph, pred, wanted, -1, o->loss, o->huber_delta)", "unit family"),
    ("src/diffusion/time_sampler.c", "(float)(1 / (s->steps * s->share[t[i]]))", "(float)(1 / s->share[t[i]])", "unit diffusion"),
    ("src/diffusion/time_sampler.c", "memmove(row, row + 1, (LUN_TIME_HISTORY - 1) * sizeof *row);", "", "unit diffusion"),
    ("src/diffusion/time_sampler.c", "sqrt(square / LUN_TIME_HISTORY)", "square / LUN_TIME_HISTORY", "unit diffusion"),
]

TRAINING = [
    ("src/train/rates.c", "pow(n, -0.75)", "pow(n, -0.5)", "unit optimizer"),
    ("src/train/rates.c", "const uint64_t done = step - 1 - c->warmup", "const uint64_t done = step - c->warmup", "unit optimizer"),
    ("src/train/rates.c", "c->lr * (double)step / (double)c->warmup", "c->lr * (double)(step + 1) / (double)c->warmup", "unit optimizer"),
    ("src/train/trainer.c", "const double done = (double)(t->step + 1);", "const double done = (double)(t->step + 2);", "model"),
    ("src/train/trainer.c", " + (uint64_t)part * (uint64_t)count;", ";", "unit optimizer"),
    ("src/train/trainer.c", "return (float)(sum / parts);", "return (float)sum;", "unit optimizer"),
    ("src/train/trainer_files.c", "t->step = t->drained = info.step;", "t->step = t->drained = 0;", "unit train"),
    ("src/train/trainer_files.c", "(slot == LUN_SLOT_V && data[e] < 0)", "(slot == LUN_SLOT_M && data[e] < 0)", "unit family"),
    ("src/train/feed.c", "order->pictures + step % per_epoch * order->batch", "order->pictures + step % per_epoch", "unit feed"),
    ("src/train/feed.c", "(seed, LUN_RANDOM_LABEL, number, 0, 0) < label_dropout", "(seed, LUN_RANDOM_LABEL, number, 0, 0) > label_dropout", "unit feed"),
    ("src/base/philox.c", "epoch, 0, count - i, i);", "epoch, 0, count - i, i - 1);", "unit base"),
    ("src/base/philox.c", "row[1] = (uint32_t)(seed >> 32);", "row[1] = 0;", "unit base"),
    ("src/base/philox.c", "row[3] = (uint32_t)(number >> 32);", "row[3] = 0;", "unit base"),
]

CHECKPOINTS = [
    ("src/checkpoint/safetensors_read.c", "if (entry->offset != position)", "if (entry->offset < position)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (entry->offset != position)", "if (entry->offset > position)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (dim && count > ((UINT64_C(1) << 53) - 1) / dim)", "if (0)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (end - begin != count * dtypes[type].size)", "if (end - begin < count * dtypes[type].size)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (position != file->size - 8 - file->header)", "if (position > file->size - 8 - file->header)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (length > file->size - 8)", "if (length > file->size)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "if (json_object_size(json) != 3)", "if (json_object_size(json) < 3)", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "return crc == want ? LUN_OK", "return crc || !crc ? LUN_OK", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "good = crc32_z(0, (const unsigned char *)text, (size_t)file->header) == want;", "good = true;", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "(exponent + 112) << 23", "(exponent + 111) << 23", "unit safetensors"),
    ("src/checkpoint/safetensors_read.c", "return x->bytes < y->bytes ? -1 : 1;", "return x->bytes > y->bytes ? -1 : 1;", "unit safetensors"),
    ("src/checkpoint/safetensors_write.c", "if (!fault && writer->total % size)", "if (0)", "unit safetensors"),
    ("src/checkpoint/safetensors_write.c", "if (writer->at < writer->count)\n        return broken", "if (writer->at > writer->count)\n        return broken", "unit safetensors"),
    ("src/checkpoint/json.c", "JSON_REJECT_DUPLICATES", "0", "unit safetensors"),
    ("src/checkpoint/json.c", "if (++depth > limits->depth)", "if (++depth > limits->depth + 1)", "unit safetensors"),
    ("src/checkpoint/runfolder.c", "&& ++seen > lun_max_i64(keep, 1)", "&& ++seen >= lun_max_i64(keep, 1)", "unit runfolder"),
    ("src/checkpoint/runfolder.c", "return x < y ? 1 : x > y ? -1 : 0;", "return x < y ? -1 : x > y ? 1 : 0;", "unit runfolder"),
    ("src/checkpoint/runfolder.c", "(uint64_t)at <= step;", "(uint64_t)at < step;", "unit runfolder"),
    ("src/checkpoint/runfolder.c", "if (!a || !b || strcmp(a, b) != 0)", "if (!a || !b)", "unit runfolder"),
    ("src/checkpoint/runfolder.c", "lun_safetensors_writer *writer = writers[i % all];", "lun_safetensors_writer *writer = writers[i - 1];", "unit protocol"),
    ("src/base/file.c", "if (status == LUN_OK && (error = sync_fd(file->fd)) != 0)\n        status = failed(file, \"sync\", error);\n", "", "unit protocol"),
    ("src/base/file.c", "if ((error = sync_dir(file->dir)) != 0)", "if (0)", "unit protocol"),
    ("src/base/file.c", "        data += done;\n", "", "unit protocol"),
    ("src/base/file.c", "    while (fsync(fd) != 0) {\n        if (errno != EINTR)\n            return errno;\n    }", "    while (fsync(fd) != 0) {\n    }", "unit protocol"),
    ("src/base/file.c", "return error == EINVAL || error == ENOTSUP ? 0 : error;", "return error;", "unit protocol"),
    ("src/base/file.c", "    if (file)\n        unlinkat(file->dir, file->temp, 0);\n", "", "unit file"),
]

DATA = [
    ("src/data/png.c", " || png_get_valid(png, info, PNG_INFO_tRNS)", "", "unit pictures"),
    ("src/data/png.c", "if (strncmp(text, \"tRNS\", 4) == 0)", "if (0)", "unit pictures"),
    ("src/data/png.c", "const bool whole = passes > 1 && have != want;", "const bool whole = false;", "unit pictures"),
    ("src/data/jpeg.c", "#define MAX_SCANS  100", "#define MAX_SCANS  10000", "unit pictures"),
    ("src/data/jpeg.c", "case 6: return (placement){height, width, h - 1, h, -1};", "case 6: return (placement){height, width, h * (w - 1), -h, 1};", "unit pictures"),
    ("src/data/jpeg.c", "jpeg->saw_Adobe_marker ? 0 : 255", "jpeg->saw_Adobe_marker ? 255 : 0", "unit pictures"),
    ("src/data/jpeg.c", "if (level < 0)", "if (level < -1)", "unit pictures"),
    ("src/data/jpeg.c", "read_16(entry + 2, big_endian) == 3", "read_16(entry + 2, big_endian) != 4", "unit pictures"),
    ("src/data/picture.c", "19595u * rgb[0] + 38470u * rgb[1]", "38470u * rgb[0] + 19595u * rgb[1]", "unit pictures"),
    ("src/data/picture.c", "if (decode->file_bytes < least_bytes)", "if (0)", "unit pictures"),
    ("src/data/resize.c", "(first + k + 0.5) * scale", "(first + k) * scale", "unit pictures"),
    ("src/data/resize.c", "const double reach = scale < 1 ? 1 : scale;", "const double reach = 1;", "unit pictures"),
    ("src/data/dataset.c", "value[v] = (float)v / 255.0f * 2.0f - 1.0f;", "value[v] = (float)v / 256.0f * 2.0f - 1.0f;", "unit pictures"),
    ("src/data/augment.c", "SUB_WINDOW, 0, (uint32_t)room_x + 1", "SUB_WINDOW, 0, (uint32_t)room_x", "unit vary"),
    ("src/data/pixel_cache.c", "hash != h.text_hash", "false", "unit dataset_cache"),
    ("src/data/holdout.c", "(i + 1) % (size_t)holdout == 0", "i % (size_t)holdout == 0", "unit holdout"),
    ("src/data/nearest.c", "if (s->not_itself && k == i)", "if (0)", "unit measure"),
    ("src/train/config.c", "LUN_TRY(get_real(from, object, \"beta2\", &c->beta2));", "LUN_TRY(get_real(from, object, \"beta1\", &c->beta2));", "unit record"),
    ("src/train/config.c", "if (json_array_size(rates) > LUN_MAX_EMA)", "if (json_array_size(rates) > LUN_MAX_EMA + 1)", "unit record"),
    ("src/train/config.c", "if (strlen(hash) != 16 || hash[strspn(hash, \"0123456789abcdef\")])", "if (strlen(hash) != 16)", "unit record"),
    ("src/train/preset.c", "c->accumulate > c->batch || c->batch % c->accumulate)", "c->accumulate > c->batch)", "unit record"),
    ("src/device/tuning.c", "after_line(after_line(text, MAGIC), tuning->key)", "after_line(text, MAGIC)", "unit tune"),
    ("src/device/tuning.c", "return put(tuning, op, candidate, 1e-3 * milliseconds, false);", "return put(tuning, op, candidate, milliseconds, false);", "unit tune"),
    ("src/device/tuning.c", "!(milliseconds >= 0 && milliseconds < 1e9)", "!(milliseconds < 1e9)", "unit tune"),
]

MUTANTS = KERNELS + GRADIENTS + LOWERINGS + DIFFUSION + TRAINING + CHECKPOINTS + DATA
