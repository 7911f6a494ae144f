/* The sub-folders of a data set as classes. */
#include <stdlib.h>
#include <string.h>

#include "dataset.h"

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The first part of a path, fresh. */
static char *first_part(const char *name)
{
    return lun_format("%.*s", (int)strcspn(name, "/"), name);
}

static int find_class(const lun_dataset *d, const char *name)
{
    char *part = first_part(name), **found = NULL;
    if (part)
        found = bsearch(&part, d->classes, (size_t)d->class_count, sizeof *d->classes, by_bytes);
    free(part);
    return found ? (int)(found - d->classes) : -1;
}

/* The folder's part of every name. What begins with the same "a/" stands together among sorted names, but in another
 * order than the folders have: "a.b/x" comes before "a/x". */
static lun_status collect(lun_dataset *d)
{
    int room = 0;
    for (size_t i = 0; i < d->count; i++) {
        const char *name = d->names[i], *slash = strchr(name, '/');
        if (!slash)
            return lun_fail(LUN_ERR_DATA,
                            "%.200s lies in the folder itself: with labels every picture lies in the "
                            "sub-folder that is its class",
                            name);
        if (d->class_count > 0 && strncmp(d->classes[d->class_count - 1], name, (size_t)(slash - name)) == 0 &&
            d->classes[d->class_count - 1][slash - name] == 0)
            continue;
        if (d->class_count == LUN_DATASET_MAX_CLASSES)
            return lun_fail(LUN_ERR_DATA, "more than %d classes", LUN_DATASET_MAX_CLASSES);
        if (d->class_count == room) {
            room = room ? 2 * room : 16;
            char **classes = lun_realloc(d->classes, (size_t)room, sizeof *classes, "the classes");
            if (!classes)
                return LUN_ERR_MEMORY;
            d->classes = classes;
        }
        d->classes[d->class_count] = first_part(name);
        if (!d->classes[d->class_count])
            return LUN_ERR_MEMORY;
        d->class_count++;
    }
    return LUN_OK;
}

lun_status lun_dataset_find_classes(lun_dataset *d)
{
    LUN_TRY(collect(d));
    qsort(d->classes, (size_t)d->class_count, sizeof *d->classes, by_bytes);
    if (d->class_count < 2)
        return lun_fail(LUN_ERR_DATA, "all pictures are of one class, %.200s: labels need two sub-folders or more",
                        d->classes[0]);
    d->labels = lun_malloc(d->count, sizeof *d->labels, "the labels");
    if (!d->labels)
        return LUN_ERR_MEMORY;
    for (size_t i = 0; i < d->count; i++) {
        d->labels[i] = find_class(d, d->names[i]);
        if (d->labels[i] < 0)
            return LUN_ERR_MEMORY;
    }
    return LUN_OK;
}

void lun_dataset_free_classes(lun_dataset *d)
{
    for (int k = 0; k < d->class_count; k++)
        free(d->classes[k]);
    free(d->classes);
    free(d->labels);
}

int lun_dataset_classes(const lun_dataset *dataset)
{
    return dataset->labels ? dataset->class_count : 0;
}

const char *lun_dataset_class_name(const lun_dataset *dataset, int k)
{
    return k >= 0 && k < lun_dataset_classes(dataset) ? dataset->classes[k] : NULL;
}

int lun_dataset_label(const lun_dataset *dataset, size_t i)
{
    return dataset->labels && i < dataset->count ? dataset->labels[i] : -1;
}
