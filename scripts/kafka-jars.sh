#!/usr/bin/env bash
# Fetches Apache Kafka with Maven, once, and prints the folder of its jars as the only line on standard output: kafka-jars.sh
# KAFKA_JARS names a folder other than .run/kafka-jars. It appears only when it is complete.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=4.4.0
logging=2.25.5 # Kafka's jars log through slf4j and bring nothing that writes

top=${KAFKA_JARS:-$PWD/.run/kafka-jars}
mkdir -p "$top"
top=$(cd "$top" && pwd)
jars=$top/$version

exec 9>"$top/lock" # two calls at once fetch once
flock -w 300 9 || { echo "kafka-jars: another fetch holds $top/lock for five minutes: end it" >&2; exit 1; }
if [ ! -d "$jars" ]; then
  if ! command -v mvn >/dev/null; then
    echo "kafka-jars: Maven is needed to fetch Kafka $version: install maven, or put its jars into $jars" >&2
    exit 1
  fi
  part=$(mktemp -d "$top/fetching.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  cat >"$part/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>callchain</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>$logging</version>
    </dependency>
  </dependencies>
</project>
POM
  echo "kafka-jars: fetching Kafka $version (43 MB, once)" >&2
  fetch=(mvn -q -B -ntp -f "$part/pom.xml" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$part/jars")
  if ! "${fetch[@]}" >&2 9>&- && ! "${fetch[@]}" >&2 9>&-; then
    echo "kafka-jars: Maven could not fetch Kafka $version twice: see its lines above, and whether this machine reaches a Maven repository" >&2
    exit 1
  fi
  mv "$part/jars" "$jars"
fi
echo "$jars"
