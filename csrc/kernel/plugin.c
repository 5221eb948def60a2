#include "kernel/plugin.h"

#include <dlfcn.h>
#include <string.h>

static facs_status check(const facs_plugin *plugin, const char *path)
{
    if (plugin->abi == FACS_PLUGIN_ABI && plugin->kernel_bytes == sizeof(facs_kernels) &&
        plugin->device_bytes == sizeof(facs_device))
        return FACS_OK;
    return facs_fail(FACS_E_DEVICE,
                     "%s was built for another version of facsnet (its ABI is %d, wanted %d): "
                     "install facsnet again",
                     path, plugin->abi, FACS_PLUGIN_ABI);
}

facs_status facs_plugin_load(facs_plugin *plugin, const char *path)
{
    facs_plugin_opener *open;

    memset(plugin, 0, sizeof *plugin);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return facs_fail(FACS_E_DEVICE, "cannot load %s: %s", path, dlerror());
    void *symbol = dlsym(object, "facs_plugin_open");
    if (!symbol) return facs_fail(FACS_E_DEVICE, "%s is not a device plugin of facsnet", path);
    memcpy(&open, &symbol, sizeof open);
    /* Older plugins fill less of the struct: versions are compared before anything is used. */
    FACS_TRY(open(plugin, facs_fail));
    return check(plugin, path);
}
