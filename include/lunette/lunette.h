/* All of lunette's public API. */
#ifndef LUNETTE_H
#define LUNETTE_H

#include "advice.h"
#include "checkpoint.h"
#include "data.h"
#include "device.h"
#include "diffusion.h"
#include "doctor.h"
#include "forecast.h"
#include "graph.h"
#include "measure.h"
#include "model.h"
#include "picture_out.h"
#include "preset.h"
#include "status.h"
#include "tensor.h"
#include "train.h"
#include "tune.h"

#endif
