package api

import (
	"callchain/engine/projection"

	"github.com/prometheus/client_golang/prometheus"
)

// route is one line of the table of all routes: what serves it, and who may use it.
type route struct {
	method string
	path   string // gin's form
	roles  roles
	handle handler
	lane   lane
}

// lane says which bound a request counts against.
type lane uint8

const (
	ordinary  lane = iota
	streaming      // stays open
	probing        // health and metrics: answered also when everything else is full
)

// routes is the one table. What is not in it does not exist, and a test walks it to see that every line asks for a token and a role.
func (s *server) routes(measurements *prometheus.Registry) []route {
	all := []route{
		{"GET", "/livez", anybody, live, probing},
		{"GET", "/readyz", anybody, ready, probing},
		{"GET", "/metrics", anybody, measured(measurements), probing},

		{"POST", "/api/auth/login", anybody, login, ordinary},
		{"POST", "/api/auth/token", anybody, refresh, ordinary},
		{"GET", "/api/noauth/userPasswordPolicy", anybody, passwordPolicy, ordinary},
		{"POST", "/api/auth/logout", members, logout, ordinary},
		{"GET", "/api/auth/user", members, currentUser, ordinary},
		{"POST", "/api/auth/changePassword", members, changePassword, ordinary},
		{"GET", "/api/user/:userId", members, getUser, ordinary},
		{"GET", "/api/tenant/:tenantId", sysAdmins | tenantAdmins, getTenant, ordinary},
		{"GET", "/api/tenant/info/:tenantId", sysAdmins | tenantAdmins, getTenant, ordinary},
	}
	all = append(all, callRoutes...)
	all = append(all, deviceRoutes...)
	all = append(all, telemetryRoutes...)
	all = append(all, chainRoutes...)
	all = append(all, ruleChainRoutes...)
	all = append(all, scriptRoutes...)
	all = append(all, traceRoutes...)
	return all
}

// callRoutes: calls as ThingsBoard has them, and their history. A system administrator passes the role of the POSTs and is refused at the
// device, as in ThingsBoard.
var callRoutes = []route{
	{"POST", "/api/plugins/rpc/oneway/:deviceId", members, callDevice(v1, true), ordinary},
	{"POST", "/api/plugins/rpc/twoway/:deviceId", members, callDevice(v1, false), ordinary},
	{"POST", "/api/rpc/oneway/:deviceId", members, callDevice(v2, true), ordinary},
	{"POST", "/api/rpc/twoway/:deviceId", members, callDevice(v2, false), ordinary},
	{"GET", "/api/rpc/persistent/:rpcId", tenants, getPersistent, ordinary},
	{"GET", "/api/rpc/persistent/device/:deviceId", tenants, listPersistent, ordinary},
	{"DELETE", "/api/rpc/persistent/:rpcId", tenantAdmins, deletePersistent, ordinary},

	{"GET", "/api/rpc/calls", tenants, listCalls, ordinary},
	{"GET", "/api/rpc/calls/:callId", tenants, getCall, ordinary},
	{"GET", "/api/rpc/calls/:callId/events", tenants, getCallEvents, ordinary},
	{"GET", "/api/rpc/calls/:callId/watch", tenants, watchCall, streaming},
	{"POST", "/api/rpc/calls/:callId/cancel", tenants, cancelCall, ordinary},
	{"GET", "/api/events/stream", tenantAdmins, streamEvents, streaming},
	{"GET", "/api/dead-letters", tenantAdmins, listDeadLetters, ordinary},
	{"POST", "/api/dead-letters/:id/rerun", tenantAdmins, rerunDeadLetter, ordinary},
	{"DELETE", "/api/dead-letters/:id", tenantAdmins, dropDeadLetter, ordinary},
}

// deviceRoutes: devices, credentials and device profiles in ThingsBoard's form.
var deviceRoutes = []route{
	{"POST", "/api/device", tenantAdmins, saveDevice, ordinary},
	{"POST", "/api/device-with-credentials", tenantAdmins, saveDeviceWithCredentials, ordinary},
	{"GET", "/api/device/:deviceId", tenants, getDevice, ordinary},
	{"GET", "/api/device/info/:deviceId", tenants, getDeviceInfo, ordinary},
	{"DELETE", "/api/device/:deviceId", tenantAdmins, deleteDevice, ordinary},
	{"GET", "/api/device/types", tenants, deviceTypes, ordinary},
	{"GET", "/api/devices", tenants, devicesByIDs, ordinary},
	{"GET", "/api/tenant/deviceInfos", tenantAdmins, listDeviceInfos, ordinary},
	{"GET", "/api/deviceInfos/all", tenantAdmins, listDeviceInfos, ordinary},
	{"GET", "/api/user/devices", tenantAdmins, listDevices, ordinary},
	{"GET", "/api/tenant/devices", tenantAdmins, listDevices, ordinary},
	{"GET", "/api/tenant/device", tenantAdmins, deviceByName, ordinary},
	{"GET", "/api/device/:deviceId/credentials", tenants, getCredentials, ordinary},
	{"POST", "/api/device/credentials", tenantAdmins, saveCredentials, ordinary},

	{"POST", "/api/deviceProfile", tenantAdmins, saveProfile, ordinary},
	{"GET", "/api/deviceProfile/:profileId", tenantAdmins, getProfile, ordinary},
	{"DELETE", "/api/deviceProfile/:profileId", tenantAdmins, deleteProfile, ordinary},
	{"POST", "/api/deviceProfile/:profileId/default", tenantAdmins, makeDefaultProfile, ordinary},
	{"GET", "/api/deviceProfiles", tenantAdmins, listProfiles, ordinary},
	{"GET", "/api/deviceProfileInfos", tenants, listProfileInfos, ordinary},
	{"GET", "/api/deviceProfileInfos/list", tenants, profileInfosByIDs, ordinary},
	{"GET", "/api/deviceProfileInfo/default", tenants, defaultProfileInfo, ordinary},
	{"GET", "/api/deviceProfileInfo/:profileId", tenants, getProfileInfo, ordinary},
	{"GET", "/api/deviceProfile/names", tenants, profileNames, ordinary},
	{"GET", "/api/deviceProfile/devices/keys/timeseries", tenantAdmins, profileKeys(projection.Latest), ordinary},
	{"GET", "/api/deviceProfile/devices/keys/attributes", tenantAdmins, profileKeys(projection.Attributes), ordinary},
}

// telemetryRoutes: attributes and latest values of devices. ThingsBoard has each write in an older and a newer form.
var telemetryRoutes = []route{
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/attributes", tenants, getAttributeKeys, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/attributes/:scope", tenants, getAttributeKeys, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/attributes", tenants, getAttributes, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/attributes/:scope", tenants, getAttributes, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/timeseries", tenants, getLatestKeys, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/timeseries", tenants, getLatest, ordinary},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/timeseries/history", tenants, noHistory, ordinary},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/timeseries/:scope", tenants, saveSeries, ordinary},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/timeseries/:scope/:ttl", tenants, saveSeries, ordinary},
	{"DELETE", "/api/plugins/telemetry/DEVICE/:deviceId/timeseries/delete", tenants, deleteSeries, ordinary},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/attributes/:scope", tenants, saveAttributes, ordinary},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/:scope", tenants, saveAttributes, ordinary},
	{"POST", "/api/plugins/telemetry/:deviceId/:scope", tenants, saveAttributes, ordinary},
	{"DELETE", "/api/plugins/telemetry/DEVICE/:deviceId/:scope", tenants, deleteAttributes, ordinary},
	{"DELETE", "/api/plugins/telemetry/:deviceId/:scope", tenants, deleteAttributes, ordinary},
}

// chainRoutes: rule chains in Callchain's own form, and the nodes that they are made of.
var chainRoutes = []route{
	{"GET", "/api/nodes", tenantAdmins, listNodes, ordinary},
	{"GET", "/api/chains", tenantAdmins, listChains, ordinary},
	{"POST", "/api/chains", tenantAdmins, createChain, ordinary},
	{"GET", "/api/chains/schema", tenantAdmins, chainSchema, ordinary},
	{"GET", "/api/chains/:chainId", tenantAdmins, getChain, ordinary},
	{"PUT", "/api/chains/:chainId", tenantAdmins, saveChain, ordinary},
	{"DELETE", "/api/chains/:chainId", tenantAdmins, deleteChain, ordinary},
	{"GET", "/api/chains/:chainId/versions", tenantAdmins, listChainVersions, ordinary},
	{"POST", "/api/chains/:chainId/activate", tenantAdmins, activateChain, ordinary},
	{"POST", "/api/chains/:chainId/rollback", tenantAdmins, rollbackChain, ordinary},
	{"POST", "/api/chains/:chainId/root", tenantAdmins, makeRoot, ordinary},
}
